// A model folder of any bytes: it is read or refused, and what was read can be touched whole.
//
// An input is the length of config.json (4 bytes, little endian), config.json, and then the bytes
// of model.safetensors. The first text is read as an index of several such files, too.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include "model/fingerprint.h"
#include "model/hf_config.h"
#include "model/hf_files.h"
#include "model/read_tensors.h"
#include "model/safetensors.h"

namespace {

using namespace ringtide::model;

std::optional<SafetensorsFile> open(std::span<const std::byte> bytes) {
  try {
    return SafetensorsFile::from_memory(bytes, "input");
  } catch (const ModelError&) {
    return std::nullopt;
  }
}

std::optional<ModelConfig> configure(std::string_view text) {
  try {
    const nlohmann::json parsed = parse_json(text, "input");
    return read_hf_config(JsonObject(parsed, "input"));
  } catch (const ModelError&) {
    return std::nullopt;
  }
}

// No file outside of the folder is ever named.
void read_index(std::string_view text) {
  try {
    const nlohmann::json parsed = parse_json(text, "input");
    for (const std::string& name : indexed_files(JsonObject(parsed, "input"))) {
      if (name.find('/') == std::string::npos) continue;
      std::fprintf(stderr, "does not hold: files are of the folder\n");
      std::abort();
    }
  } catch (const ModelError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint32_t length = 0;
  if (size < sizeof length) return 0;
  std::memcpy(&length, data, sizeof length);
  std::span rest = std::as_bytes(std::span(data, size)).subspan(sizeof length);
  if (length > rest.size()) return 0;
  const std::string_view text(reinterpret_cast<const char*>(rest.data()), length);

  read_index(text);
  const std::optional<ModelConfig> config = configure(text);
  const std::optional<SafetensorsFile> file = open(rest.subspan(length));
  if (!file) return 0;
  TensorSet tensors("input");
  tensors.add(file->tensors());
  // Touches every byte of every tensor.
  fingerprint(tensors, std::span(&text, 1));
  if (!config) return 0;
  try {
    read_tensors(tensors, hugging_face_names(*find_architecture(config->architecture)), *config);
  } catch (const ModelError&) {
  }
  return 0;
}

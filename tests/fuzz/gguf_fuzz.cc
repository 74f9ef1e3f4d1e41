// A model file of any bytes: it opens or is refused, and what opened can be read whole.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/fingerprint.h"
#include "model/gguf.h"
#include "model/read_tensors.h"

namespace {

using ringtide::model::GgufEntry;
using ringtide::model::GgufFile;
using ringtide::model::GgufKind;
using ringtide::model::ModelError;

template <class T>
void read_as(const GgufFile& file, const GgufEntry& entry) {
  try {
    file.find<T>(entry.key);
  } catch (const ModelError&) {
  }
}

// As what it is: an error is rare, so that the fuzzer does not spend its time on exceptions.
void read_entry(const GgufFile& file, const GgufEntry& entry) {
  switch (entry.kind) {
    case GgufKind::String:
      return entry.is_array ? read_as<std::vector<std::string_view>>(file, entry)
                            : read_as<std::string_view>(file, entry);
    case GgufKind::Float32:
    case GgufKind::Float64:
      return entry.is_array ? read_as<std::vector<float>>(file, entry)
                            : read_as<double>(file, entry);
    case GgufKind::Bool:
      return read_as<bool>(file, entry);
    default:
      return entry.is_array ? read_as<std::vector<int32_t>>(file, entry)
                            : read_as<uint64_t>(file, entry);
  }
}

void read_everything(const GgufFile& file) {
  for (const GgufEntry& entry : file.metadata()) read_entry(file, entry);
  // Touches every byte of every tensor.
  ringtide::model::fingerprint(file);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const GgufFile file = GgufFile::from_memory(std::as_bytes(std::span(data, size)), "input");
    read_everything(file);
    ringtide::model::read_tensors(file, ringtide::model::read_config(file));
  } catch (const ModelError&) {
  }
  return 0;
}

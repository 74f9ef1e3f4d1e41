#include "model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "model/json_file.h"
#include "model/types.h"

namespace ringtide::model {
namespace {

using nlohmann::json;

// As the reference implementation has it.
constexpr uint64_t kLongestHeader = 100'000'000;

struct ElementType {
  std::string_view name;
  int64_t bytes;
};
constexpr ElementType kTypes[] = {
    {"F64", 8}, {"F32", 4}, {"F16", 2},  {"BF16", 2},    {"I64", 8},
    {"I32", 4}, {"I16", 2}, {"I8", 1},   {"U64", 8},     {"U32", 4},
    {"U16", 2}, {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
};

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  auto mapping = std::make_shared<const MappedFile>(path, "a safetensors file");
  const auto bytes = mapping->bytes();
  return SafetensorsFile(std::move(mapping), bytes, path);
}

SafetensorsFile SafetensorsFile::from_memory(std::span<const std::byte> bytes, std::string name) {
  return SafetensorsFile(nullptr, bytes, std::move(name));
}

SafetensorsFile::SafetensorsFile(std::shared_ptr<const MappedFile> mapping,
                                 std::span<const std::byte> bytes, std::string name)
    : mapping_(std::move(mapping)), name_(std::move(name)) {
  uint64_t header = 0;
  if (bytes.size() < sizeof header) fail("ends within the length of its header; fetch it again");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header > kLongestHeader || header > bytes.size() - sizeof header) {
    fail("its header is said to have " + std::to_string(header) + " bytes, of the file's " +
         std::to_string(bytes.size()) + "; it is cut short or no safetensors file");
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof header, header);
  const std::span<const std::byte> data = bytes.subspan(sizeof header + header);
  const json parsed = parse_json(text, name_);
  const JsonObject root(parsed, name_);

  for (const auto& [key, value] : parsed.items()) {
    if (key == "__metadata__") continue;
    const JsonObject entry(value, name_, key + ".");
    FileTensor t;
    t.name = *names_.emplace_back(std::make_unique<const std::string>(key));
    const std::string dtype = entry.require("dtype", entry.string("dtype"));
    const auto* type = std::ranges::find(kTypes, dtype, &ElementType::name);
    if (type == std::end(kTypes))
      entry.fail("dtype", "is " + model::quoted(dtype) + ", which is unknown");
    t.type_name = type->name;

    const json* shape = entry.array("shape");
    if (shape == nullptr) entry.fail("shape", "is missing");
    int64_t elements = 1;
    for (const json& extent : *shape) {
      if (!extent.is_number_unsigned() ||
          extent.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
          (elements > 0 &&
           extent.get<int64_t>() > std::numeric_limits<int64_t>::max() / 8 / elements)) {
        entry.fail("shape", "has an extent that is no count, or too large");
      }
      elements *= extent.get<int64_t>();
      t.shape.insert(t.shape.begin(), extent.get<int64_t>());
    }
    const json* offsets = entry.array("data_offsets");
    if (offsets == nullptr || offsets->size() != 2 || !(*offsets)[0].is_number_unsigned() ||
        !(*offsets)[1].is_number_unsigned()) {
      entry.fail("data_offsets", "must be two counts of bytes");
    }
    const auto begin = (*offsets)[0].get<uint64_t>(), end = (*offsets)[1].get<uint64_t>();
    if (begin > end || end > data.size()) {
      entry.fail("data_offsets", "are " + std::to_string(begin) + " and " + std::to_string(end) +
                                     ", of " + std::to_string(data.size()) +
                                     " bytes of data; the file is cut short or damaged");
    }
    if (end - begin != static_cast<uint64_t>(elements * type->bytes)) {
      entry.fail("data_offsets", "span " + std::to_string(end - begin) +
                                     " bytes, but the shape takes " +
                                     std::to_string(elements * type->bytes));
    }
    t.offset = sizeof header + header + begin;
    t.bytes = data.subspan(begin, end - begin);
    tensors_.push_back(std::move(t));
  }

  std::ranges::sort(tensors_, [](const FileTensor& a, const FileTensor& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes.size() < b.bytes.size();
  });
  uint64_t at = sizeof header + header;
  for (const FileTensor& t : tensors_) {
    if (t.offset != at) {
      fail("the data of tensor " + model::quoted(t.name) + " begins at byte " +
           std::to_string(t.offset) + " of the file, not at " + std::to_string(at) +
           " where the one before ends");
    }
    at += t.bytes.size();
  }
  if (at != bytes.size()) {
    fail(std::to_string(bytes.size() - at) + " bytes at its end belong to no tensor");
  }
}

void SafetensorsFile::fail(const std::string& what) const { throw ModelError(name_ + ": " + what); }

}  // namespace ringtide::model

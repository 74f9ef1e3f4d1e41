// Writes GGUF files: sound ones, and ones that are wrong in a way the caller chooses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace ringtide::testing {

using GgufValue = std::variant<uint32_t, int32_t, uint64_t, float, bool, std::string,
                               std::vector<int32_t>, std::vector<float>, std::vector<std::string>>;

struct BuiltEntry {
  std::string key;
  GgufValue value;
};

struct BuiltTensor {
  std::string name;
  std::vector<uint64_t> shape;  // the fastest dimension first
  uint32_t type = 0;            // the file's number
  std::vector<std::byte> bytes;
  // Where the data is said to lie in the data section, if not where build() puts it.
  uint64_t offset = kPlaced;
  static constexpr uint64_t kPlaced = ~uint64_t{0};
};

// A file as parts that a test may change before it is written.
struct GgufBuilder {
  uint32_t magic = 0x46554747;
  uint32_t version = 3;
  uint32_t alignment = 32;  // where data is put; say it in the metadata where it is not 32
  std::vector<BuiltEntry> metadata;
  std::vector<BuiltTensor> tensors;

  void set(const std::string& key, GgufValue value);  // replaces
  void drop(std::string_view key);
  BuiltTensor& tensor(std::string_view name);  // throws std::out_of_range
  void drop_tensor(std::string_view name);

  // Where in the written file something begins, in order.
  struct Mark {
    uint64_t offset;
    std::string what;
  };
  std::vector<std::byte> build(std::vector<Mark>* marks = nullptr) const;
};

void write_file(const std::string& path, const std::vector<std::byte>& bytes);

}  // namespace ringtide::testing

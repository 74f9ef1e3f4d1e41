// The GGUF container: typed metadata and named tensors over one read-only range of bytes.
//
// Everything is checked before it is used: a file that opens has counts, lengths, shapes and
// offsets that fit its size, distinct names, and tensors that do not overlap. Nothing is allocated
// that the bytes present do not justify. Versions 2 and 3, little endian.
//
// Strings and tensor bytes point into the range; they live as long as the file object or its
// mapping. Immutable after construction; any thread.
//
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/file_tensor.h"
#include "model/mapped_file.h"
#include "model/types.h"

namespace ringtide::model {

// The kinds of metadata values, numbered as in the file.
enum class GgufKind : uint32_t {
  Uint8,
  Int8,
  Uint16,
  Int16,
  Uint32,
  Int32,
  Float32,
  Bool,
  String,
  Array,
  Uint64,
  Int64,
  Float64
};

struct GgufEntry {
  std::string_view key;
  GgufKind kind = GgufKind::Uint8;  // of the value; of each element where it is an array
  bool is_array = false;            // arrays of arrays are refused
  uint64_t count = 1;               // elements
  std::span<const std::byte> data;  // the elements as they lie in the file
};

class GgufFile {
 public:
  // Maps the file. Throws ModelError: it cannot be read, or is not a sound GGUF file.
  static GgufFile open(const std::string& path);
  // Reads bytes that the caller keeps alive; `name` stands for the path in messages.
  static GgufFile from_memory(std::span<const std::byte> bytes, std::string name);

  GgufFile(GgufFile&&) = default;
  GgufFile& operator=(GgufFile&&) = default;

  const std::string& name() const { return name_; }
  uint32_t version() const { return version_; }
  uint64_t size() const { return bytes_.size(); }

  // In the order of the file.
  const std::vector<GgufEntry>& metadata() const { return metadata_; }
  const std::vector<FileTensor>& tensors() const { return tensors_; }

  const GgufEntry* entry(std::string_view key) const;     // null: none
  const FileTensor* tensor(std::string_view name) const;  // null: none

  // The value of a key, or nothing where the key is absent. Throws ModelError where it is there but
  // no T. T: bool, int32_t, uint32_t, int64_t, uint64_t (any integer kind whose value fits), float,
  // double (either float kind), std::string_view, or a std::vector of one of those but bool.
  template <class T>
  std::optional<T> find(std::string_view key) const {
    const GgufEntry* e = entry(key);
    if (e == nullptr) return std::nullopt;
    T value;
    read(*e, value);
    return value;
  }

  // As find(), and throws ModelError where the key is absent.
  template <class T>
  T require(std::string_view key) const {
    std::optional<T> value = find<T>(key);
    if (!value) missing(key);
    return *std::move(value);
  }

  // Keeps the bytes; null where they are the caller's.
  const std::shared_ptr<const MappedFile>& mapping() const { return mapping_; }

  // Throws ModelError "NAME: what".
  [[noreturn]] void fail(const std::string& what) const;

 private:
  GgufFile(std::shared_ptr<const MappedFile> mapping, std::span<const std::byte> bytes,
           std::string name);

  [[noreturn]] void missing(std::string_view key) const;
  void read(const GgufEntry& e, bool& value) const;
  void read(const GgufEntry& e, int32_t& value) const;
  void read(const GgufEntry& e, uint32_t& value) const;
  void read(const GgufEntry& e, int64_t& value) const;
  void read(const GgufEntry& e, uint64_t& value) const;
  void read(const GgufEntry& e, float& value) const;
  void read(const GgufEntry& e, double& value) const;
  void read(const GgufEntry& e, std::string_view& value) const;
  template <class T>
  void read(const GgufEntry& e, std::vector<T>& values) const;

  std::shared_ptr<const MappedFile> mapping_;
  std::span<const std::byte> bytes_;
  std::string name_;
  uint32_t version_ = 0;
  std::vector<GgufEntry> metadata_;
  std::vector<FileTensor> tensors_;
  std::unordered_map<std::string_view, size_t> entry_index_;
  std::unordered_map<std::string_view, size_t> tensor_index_;
};

}  // namespace ringtide::model

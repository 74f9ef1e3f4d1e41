// A tensor as it lies in a file, of any container.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ringtide::model {

struct FileTensor {
  std::string_view name;
  std::vector<int64_t> shape;  // the fastest dimension first: (k, n) for n rows of k
  uint32_t type = 0;           // GGUF: the file's number
  std::string_view type_name;  // "Q4_1"; empty: a type that the container's reader does not know
  uint64_t offset = 0;         // from the start of the file
  std::span<const std::byte> bytes;  // empty where the type is not known
};

// The tensors of a model by name, from one file or several. Points to them.
class TensorSet {
 public:
  explicit TensorSet(std::string owner) : owner_(std::move(owner)) {}

  // Throws ModelError: a name that is there already.
  void add(std::span<const FileTensor> tensors);

  const FileTensor* find(std::string_view name) const;  // null: none
  const std::vector<const FileTensor*>& all() const { return all_; }

  // Throws ModelError "OWNER: what".
  [[noreturn]] void fail(const std::string& what) const;

 private:
  std::string owner_;
  std::vector<const FileTensor*> all_;
  std::unordered_map<std::string_view, const FileTensor*> index_;
};

// A name from a file, as a message may show it: quoted, unprintable bytes escaped, cut where it is
// long.
std::string quoted(std::string_view name);

}  // namespace ringtide::model

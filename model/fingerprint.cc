#include "model/fingerprint.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace ringtide::model {
namespace {

class Hash {
 public:
  Hash() : state_(XXH3_createState(), &XXH3_freeState) {
    if (state_ == nullptr) throw std::bad_alloc();
    XXH3_128bits_reset(state_.get());
  }

  void number(uint64_t value) { XXH3_128bits_update(state_.get(), &value, sizeof value); }

  // Preceded by its length, so that no two sequences of fields read the same.
  void bytes(const void* data, size_t size) {
    number(size);
    XXH3_128bits_update(state_.get(), data, size);
  }

  std::string hex() const {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_.get()));
    constexpr char kHex[] = "0123456789abcdef";
    std::string text;
    for (const unsigned char byte : canonical.digest) text += {kHex[byte >> 4], kHex[byte & 15]};
    return text;
  }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

template <class T, class Name>
std::vector<const T*> sorted(const std::vector<T>& items, Name T::*name) {
  std::vector<const T*> order;
  order.reserve(items.size());
  for (const T& item : items) order.push_back(&item);
  std::ranges::sort(order, {}, name);
  return order;
}

void add(const FileTensor& t, Hash& hash) {
  hash.bytes(t.name.data(), t.name.size());
  hash.number(t.type);
  hash.bytes(t.shape.data(), t.shape.size() * sizeof(int64_t));
  hash.bytes(t.bytes.data(), t.bytes.size());
}

}  // namespace

std::string fingerprint(const GgufFile& file) {
  const std::string own =
      std::string(file.find<std::string_view>("general.architecture").value_or("")) + ".";
  Hash hash;
  for (const GgufEntry* e : sorted(file.metadata(), &GgufEntry::key)) {
    if (!e->key.starts_with(own) && !e->key.starts_with("tokenizer.") &&
        e->key != "general.architecture") {
      continue;
    }
    hash.bytes(e->key.data(), e->key.size());
    hash.number(static_cast<uint64_t>(e->kind));
    hash.number(e->is_array);
    hash.bytes(e->data.data(), e->data.size());
  }
  for (const FileTensor* t : sorted(file.tensors(), &FileTensor::name)) add(*t, hash);
  return hash.hex();
}

std::string fingerprint(const TensorSet& tensors, std::span<const std::string_view> texts) {
  Hash hash;
  for (const std::string_view text : texts) hash.bytes(text.data(), text.size());
  std::vector<const FileTensor*> order = tensors.all();
  std::ranges::sort(order, {}, &FileTensor::name);
  for (const FileTensor* t : order) {
    hash.bytes(t->type_name.data(), t->type_name.size());
    add(*t, hash);
  }
  return hash.hex();
}

}  // namespace ringtide::model

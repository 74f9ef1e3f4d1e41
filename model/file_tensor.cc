#include "model/file_tensor.h"

#include "model/types.h"

namespace ringtide::model {

std::string quoted(std::string_view name) {
  constexpr size_t kShown = 80;
  constexpr char kHex[] = "0123456789abcdef";
  std::string text = "\"";
  for (const char c : name.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\') {
      text += c;
    } else {
      text += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return text + (name.size() > kShown ? "\"..." : "\"");
}

void TensorSet::add(std::span<const FileTensor> tensors) {
  for (const FileTensor& t : tensors) {
    if (!index_.emplace(t.name, &t).second) {
      fail("tensor name " + quoted(t.name) + " is there twice");
    }
    all_.push_back(&t);
  }
}

const FileTensor* TensorSet::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : found->second;
}

void TensorSet::fail(const std::string& what) const { throw ModelError(owner_ + ": " + what); }

}  // namespace ringtide::model

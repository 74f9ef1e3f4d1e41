#include "tests/support/gguf_builder.h"

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <type_traits>

namespace ringtide::testing {
namespace {

enum Kind : uint32_t {
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10
};

class Writer {
 public:
  Writer(std::vector<std::byte>& out, std::vector<GgufBuilder::Mark>* marks)
      : out_(out), marks_(marks) {}

  void mark(const std::string& what) {
    if (marks_ != nullptr) marks_->push_back({out_.size(), what});
  }
  template <class T>
  void number(T value) {
    raw(&value, sizeof value);
  }
  void string(std::string_view s) {
    number<uint64_t>(s.size());
    raw(s.data(), s.size());
  }
  void raw(const void* data, size_t size) {
    const auto* from = static_cast<const std::byte*>(data);
    out_.insert(out_.end(), from, from + size);
  }
  void pad(uint64_t alignment) {
    while (out_.size() % alignment != 0) out_.push_back(std::byte{0});
  }

  void value(uint32_t v) { kind(kU32), number(v); }
  void value(int32_t v) { kind(kI32), number(v); }
  void value(uint64_t v) { kind(kU64), number(v); }
  void value(float v) { kind(kF32), number(v); }
  void value(bool v) { kind(kBool), number<uint8_t>(v); }
  void value(const std::string& v) { kind(kString), string(v); }
  template <class T>
  void value(const std::vector<T>& v) {
    kind(kArray);
    number<uint32_t>(std::is_same_v<T, std::string> ? kString
                     : std::is_same_v<T, float>     ? kF32
                                                    : kI32);
    number<uint64_t>(v.size());
    mark("the elements");
    for (const T& element : v) {
      if constexpr (std::is_same_v<T, std::string>) {
        string(element);
      } else {
        number(element);
      }
    }
  }

 private:
  void kind(Kind k) {
    number<uint32_t>(k);
    mark("the value");
  }

  std::vector<std::byte>& out_;
  std::vector<GgufBuilder::Mark>* marks_;
};

}  // namespace

void GgufBuilder::set(const std::string& key, GgufValue value) {
  drop(key);
  metadata.push_back({key, std::move(value)});
}

void GgufBuilder::drop(std::string_view key) {
  std::erase_if(metadata, [&](const BuiltEntry& e) { return e.key == key; });
}

BuiltTensor& GgufBuilder::tensor(std::string_view name) {
  const auto found = std::ranges::find(tensors, name, &BuiltTensor::name);
  if (found == tensors.end()) throw std::out_of_range("no tensor " + std::string(name));
  return *found;
}

void GgufBuilder::drop_tensor(std::string_view name) {
  std::erase_if(tensors, [&](const BuiltTensor& t) { return t.name == name; });
}

std::vector<std::byte> GgufBuilder::build(std::vector<Mark>* marks) const {
  std::vector<std::byte> out;
  Writer w(out, marks);
  w.mark("magic");
  w.number(magic);
  w.mark("version");
  w.number(version);
  w.mark("tensor count");
  w.number<uint64_t>(tensors.size());
  w.mark("metadata count");
  w.number<uint64_t>(metadata.size());
  for (const BuiltEntry& e : metadata) {
    w.mark("key " + e.key);
    w.string(e.key);
    w.mark("kind of " + e.key);
    std::visit([&](const auto& value) { w.value(value); }, e.value);
  }
  uint64_t placed = 0;
  for (const BuiltTensor& t : tensors) {
    w.mark("name of " + t.name);
    w.string(t.name);
    w.mark("dimensions of " + t.name);
    w.number(static_cast<uint32_t>(t.shape.size()));
    for (const uint64_t extent : t.shape) w.number(extent);
    w.mark("type of " + t.name);
    w.number(t.type);
    w.mark("offset of " + t.name);
    w.number(t.offset == BuiltTensor::kPlaced ? placed : t.offset);
    placed += (t.bytes.size() + alignment - 1) / alignment * alignment;
  }
  w.mark("padding");
  w.pad(alignment);
  for (const BuiltTensor& t : tensors) {
    w.mark("data of " + t.name);
    w.raw(t.bytes.data(), t.bytes.size());
    w.pad(alignment);
  }
  return out;
}

void write_file(const std::string& path, const std::vector<std::byte>& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out) throw std::runtime_error("cannot write " + path);
}

}  // namespace ringtide::testing

// Reading and writing of the plain fields that rows and records are made of: fixed width, little
// endian; a list is its length (u64) and its elements.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ringtide::storage {

static_assert(std::endian::native == std::endian::little, "values are stored little endian");

// Appends to `out`, which outlives the writer.
class ByteWriter {
 public:
  explicit ByteWriter(std::string& out) : out_(out) {}

  template <class T>
  requires std::integral<T> || std::floating_point<T>
  void number(T value) { out_.append(reinterpret_cast<const char*>(&value), sizeof value); }
  void text(std::string_view value) {
    number<uint64_t>(value.size());
    out_.append(value);
  }
  void tokens(std::span<const int32_t> values) {
    number<uint64_t>(values.size());
    out_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  }

 private:
  std::string& out_;
};

// Reads the same back. After the first field that does not fit, every further one is empty and
// `complete()` is false.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  template <class T>
  requires std::integral<T> || std::floating_point<T> T number() {
    T value{};
    const std::string_view bytes = take(sizeof value);
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  std::string text() { return std::string(take(number<uint64_t>())); }
  std::vector<int32_t> tokens() {
    const auto count = number<uint64_t>();
    if (count > rest_.size() / sizeof(int32_t)) fail();
    if (failed_) return {};
    const std::string_view bytes = take(count * sizeof(int32_t));
    std::vector<int32_t> values(count);
    if (count > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  // Elements that an untrusted count may still announce when each takes at least `bytes_each`.
  bool fits(uint64_t count, size_t bytes_each) const { return count <= rest_.size() / bytes_each; }
  void fail() { failed_ = true; }

  bool complete() const { return !failed_ && rest_.empty(); }

 private:
  std::string_view take(uint64_t size) {
    if (failed_ || size > rest_.size()) {
      failed_ = true;
      return {};
    }
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
  bool failed_ = false;
};

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace ringtide::storage

// A file's bytes as read-only memory. A mapped file must not be truncated by others while it is
// open: the system then answers a read with SIGBUS.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace ringtide::model {

class MappedFile {
 public:
  // Throws ModelError: no regular file (`wanted` says what should be named), or it cannot be read.
  MappedFile(const std::string& path, const std::string& wanted);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

  // Lets the system take back the memory of the pages; they are read again when touched.
  void forget_pages() const;

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace ringtide::model

#include "model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "model/types.h"

namespace ringtide::model {
namespace {

[[noreturn]] void refuse(const std::string& path, int error) {
  throw ModelError(path + ": cannot be read: " + std::generic_category().message(error));
}

}  // namespace

MappedFile::MappedFile(const std::string& path, const std::string& wanted) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) refuse(path, errno);
  struct stat status;
  int error = ::fstat(fd, &status) == 0 ? 0 : errno;
  const bool regular = error == 0 && S_ISREG(status.st_mode);
  if (regular && status.st_size > 0) {
    size_ = static_cast<size_t>(status.st_size);
    data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data_ == MAP_FAILED) error = errno;
  }
  ::close(fd);
  if (error != 0) refuse(path, error);
  if (!regular) throw ModelError(path + ": is not a regular file; name " + wanted);
}

MappedFile::~MappedFile() {
  if (size_ > 0) ::munmap(data_, size_);
}

void MappedFile::forget_pages() const {
  if (size_ > 0) ::madvise(data_, size_, MADV_DONTNEED);
}

}  // namespace ringtide::model

#include "storage/database_log.h"

#include <unistd.h>

#include <chrono>
#include <cstdarg>

namespace ringtide::storage {

DatabaseLog::DatabaseLog(const std::string& path)
    : rocksdb::Logger(rocksdb::InfoLogLevel::INFO_LEVEL), file_(std::fopen(path.c_str(), "we")) {}

DatabaseLog::~DatabaseLog() {
  if (file_ != nullptr) std::fclose(file_);
}

void DatabaseLog::Logv(const char* format, va_list arguments) {
  if (file_ == nullptr) return;
  char message[4096];
  const int size = std::vsnprintf(message, sizeof message, format, arguments);
  if (size < 0) return;
  using namespace std::chrono;
  const auto now = duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
  const std::lock_guard lock(mutex_);
  if (bytes_ > kMaxBytes) {
    // Where this fails the file grows on; it holds messages, nothing else.
    if (::ftruncate(::fileno(file_), 0) == 0) bytes_ = 0;
    std::rewind(file_);
  }
  const int written = std::fprintf(file_, "%lld %s\n", static_cast<long long>(now), message);
  if (written > 0) bytes_ += static_cast<size_t>(written);
  std::fflush(file_);
}

}  // namespace ringtide::storage

// The database's own messages, in a file beside it. Its built-in logger aborts the process when the
// disk is full (an assertion that Debian's build keeps); this one drops what cannot be written.
#pragma once

#include <rocksdb/env.h>

#include <cstdio>
#include <mutex>
#include <string>

namespace ringtide::storage {

// Begins anew at every open and each time the file is full. Any thread.
class DatabaseLog : public rocksdb::Logger {
 public:
  static constexpr size_t kMaxBytes = 4 << 20;

  // Where the file cannot be made the messages are dropped.
  explicit DatabaseLog(const std::string& path);
  ~DatabaseLog() override;

  using rocksdb::Logger::Logv;
  void Logv(const char* format, va_list arguments) override;

 private:
  std::mutex mutex_;
  std::FILE* const file_;  // nullptr: none
  size_t bytes_ = 0;       // guarded by mutex_
};

}  // namespace ringtide::storage

// How storage says what went wrong: a value, never an exception.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace ringtide::storage {

enum class Code : unsigned char {
  Ok,
  NotFound,
  Exists,
  Corrupt,  // bytes that do not match their checksum or format
  Newer,    // written by a later format version
  ReadOnly,
  NoSpace,
  Busy,    // another process holds the store
  Failed,  // anything else the system or the database says
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}
  bool ok() const { return code_ == Code::Ok; }
  Code code() const { return code_; }
  // What is wrong and what to do, for a person.
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::Ok;
  std::string message_;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) {}
  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T value() && { return std::move(*value_); }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace ringtide::storage

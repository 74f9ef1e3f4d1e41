// What every call in a template takes: arguments, and what the rendering may still spend.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/jinja_value.h"

namespace ringtide::model::jinja {

// What a rendering may still spend, in steps and in bytes and items made: a template that a model
// file brings is not trusted.
class Meter {
 public:
  explicit Meter(int64_t budget) : left_(budget) {}
  // Throws Error.
  void charge(size_t amount) {
    left_ -= static_cast<int64_t>(amount);
    if (left_ < 0) throw Error("it takes too long, or writes too much");
  }

 private:
  int64_t left_;
};

struct Arguments {
  std::vector<Value> values;
  std::vector<std::pair<std::string, Value>> named;
  // By position or name; null: not given.
  const Value* get(size_t position, std::string_view name) const;
  // Throws Error: one was given by another name.
  void expect_names(std::string_view callee, std::initializer_list<std::string_view> names) const;
};

// Throw Error, in which `callee` needs it: the value is of another kind, or was not given.
const std::string& string_of(const Value& value, const std::string& callee);
int64_t integer_of(const Value& value, const std::string& callee);
const Value& required(const Arguments& arguments, size_t position, std::string_view name,
                      const std::string& callee);

}  // namespace ringtide::model::jinja

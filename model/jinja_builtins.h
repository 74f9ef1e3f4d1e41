// What a chat template can call: the filters, tests, methods and functions of Jinja and Python that
// such templates use, with their meaning there. Others are refused by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
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

// All throw Error: there is none of that name, or it does not take what it is given.
Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments,
                   Meter& meter);
bool apply_test(const std::string& name, const Value& value, const Arguments& arguments,
                Meter& meter);
bool has_method(const Value& object, std::string_view name);
Value call_method(const Value& object, const std::string& name, const Arguments& arguments,
                  Meter& meter);
bool is_function(std::string_view name);
// `now` is what strftime_now() tells, in local time.
Value call_function(const std::string& name, const Arguments& arguments, std::time_t now,
                    Meter& meter);

// Python's `needle in haystack`.
bool contains(const Value& haystack, const Value& needle);
// object[key], and undefined where it is not there.
Value item_of(const Value& object, const Value& key);
// What a loop over it gives: items, keys, characters.
std::vector<Value> items_of(const Value& value, Meter& meter);

}  // namespace ringtide::model::jinja

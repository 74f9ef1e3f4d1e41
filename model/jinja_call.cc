#include "model/jinja_call.h"

#include <algorithm>

namespace ringtide::model::jinja {

const Value* Arguments::get(size_t position, std::string_view name) const {
  if (position < values.size()) return &values[position];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Arguments::expect_names(std::string_view callee,
                             std::initializer_list<std::string_view> names) const {
  for (const auto& [key, value] : named) {
    if (std::find(names.begin(), names.end(), key) == names.end()) {
      throw Error(std::string(callee) + " does not take " + key + " here");
    }
  }
}

const std::string& string_of(const Value& value, const std::string& callee) {
  if (const std::string* text = value.string()) return *text;
  throw Error(callee + " needs a string, not " + value.kind());
}

int64_t integer_of(const Value& value, const std::string& callee) {
  if (const int64_t* number = value.as<int64_t>()) return *number;
  if (const bool* b = value.as<bool>()) return *b;
  throw Error(callee + " needs a whole number, not " + value.kind());
}

const Value& required(const Arguments& arguments, size_t position, std::string_view name,
                      const std::string& callee) {
  if (const Value* value = arguments.get(position, name)) return *value;
  throw Error(callee + " needs an argument");
}

}  // namespace ringtide::model::jinja

// Python's strings as templates use them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "model/jinja_call.h"
#include "model/jinja_value.h"

namespace ringtide::model::jinja {

constexpr std::string_view kBlanks = " \t\n\r\f\v";

// A method of str by its name. Throws Error: there is none of that name here, or it does not take
// what it is given.
Value string_method(const std::string& text, const std::string& name, const Arguments& arguments,
                    Meter& meter);

// Each ASCII letter by tolower or toupper; others stay.
std::string mapped(std::string text, int (*letter)(int));
// Without the characters of `set` at its left and right end.
std::string stripped(std::string_view text, std::string_view set, bool left, bool right);
// The texts of the items with `between` between them.
std::string joined(const std::vector<Value>& items, std::string_view between, Meter& meter);
size_t characters(std::string_view text);

}  // namespace ringtide::model::jinja

// What a chat template can call: the filters, tests, methods and functions of Jinja and Python that
// such templates use, with their meaning there. Others are refused by name.
#pragma once

#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "model/jinja_call.h"
#include "model/jinja_value.h"

namespace ringtide::model::jinja {

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
// (key, value) of each.
Value dict_items(const Dict& dict);
// object[key], and undefined where it is not there.
Value item_of(const Value& object, const Value& key);
// What a loop over it gives: items, keys, characters.
std::vector<Value> items_of(const Value& value, Meter& meter);

}  // namespace ringtide::model::jinja

#include "model/jinja_builtins.h"

#include <algorithm>
#include <array>

#include "model/jinja_strings.h"
#include "model/utf8.h"

namespace ringtide::model::jinja {
namespace {

std::vector<Value> keys_of(const Dict& dict) {
  std::vector<Value> keys;
  for (const auto& [key, value] : dict.items) keys.emplace_back(key);
  return keys;
}

Value range(const Arguments& arguments, Meter& meter) {
  const size_t count = arguments.values.size();
  if (count < 1 || count > 3) throw Error("range takes one to three numbers");
  const int64_t first = count > 1 ? integer_of(arguments.values[0], "range") : 0;
  const int64_t end = integer_of(arguments.values[count > 1 ? 1 : 0], "range");
  const int64_t step = count > 2 ? integer_of(arguments.values[2], "range") : 1;
  if (step == 0) throw Error("range needs a step that is not 0");
  for (const int64_t bound : {first, end, step}) {
    if (bound > 1'000'000'000 || bound < -1'000'000'000) throw Error("range is too long");
  }
  std::vector<Value> out;
  for (int64_t i = first; step > 0 ? i < end : i > end; i += step) {
    meter.charge(1);
    out.emplace_back(i);
  }
  return Value::list(std::move(out));
}

std::string strftime_text(const std::string& format, std::time_t now) {
  std::tm local{};
  localtime_r(&now, &local);
  if (format.empty()) return "";
  std::vector<char> text(256 + 16 * format.size());
  const size_t length = std::strftime(text.data(), text.size(), format.c_str(), &local);
  return std::string(text.data(), length);
}

constexpr std::array<std::string_view, 5> kDictMethods = {"items", "keys", "values", "get", "copy"};

}  // namespace

std::vector<Value> items_of(const Value& value, Meter& meter) {
  std::vector<Value> items;
  if (const List* list = value.list()) {
    items = list->items;
  } else if (const Dict* dict = value.dict(); dict && !dict->is_namespace) {
    items = keys_of(*dict);
  } else if (const std::string* text = value.string()) {
    meter.charge(text->size());
    for (std::string_view rest = *text; !rest.empty();) {
      const size_t length = utf8_step(rest).length;
      items.emplace_back(rest.substr(0, length));
      rest.remove_prefix(length);
    }
  } else if (!value.is_undefined()) {
    throw Error(value.kind() + " cannot be looped over");
  }
  meter.charge(items.size());
  return items;
}

bool contains(const Value& haystack, const Value& needle) {
  if (const std::string* text = haystack.string()) {
    return text->find(string_of(needle, "in")) != std::string::npos;
  }
  if (const List* list = haystack.list()) {
    return std::find(list->items.begin(), list->items.end(), needle) != list->items.end();
  }
  if (haystack.dict()) return needle.string() && haystack.find(*needle.string()) != nullptr;
  if (haystack.is_undefined()) return false;
  throw Error("nothing is in " + haystack.kind());
}

Value item_of(const Value& object, const Value& key) {
  if (object.is_undefined()) throw Error(object.kind() + " has no parts");
  if (const int64_t* index = key.as<int64_t>()) {
    const auto at = [&](size_t size) {
      return *index < 0 ? *index + static_cast<int64_t>(size) : *index;
    };
    if (const List* list = object.list()) {
      const int64_t place = at(list->items.size());
      if (place >= 0 && place < static_cast<int64_t>(list->items.size())) return list->items[place];
      return Undefined{"item " + std::to_string(*index)};
    }
    if (object.string()) {
      Meter meter(1 << 24);
      const std::vector<Value> letters = items_of(object, meter);
      const int64_t place = at(letters.size());
      if (place >= 0 && place < static_cast<int64_t>(letters.size())) return letters[place];
    }
    return Undefined{"item " + std::to_string(*index)};
  }
  if (!key.string()) return Undefined{key.kind()};
  const Value* found = object.find(*key.string());
  return found ? *found : Value(Undefined{*key.string()});
}

Value dict_items(const Dict& dict) {
  std::vector<Value> items;
  for (const auto& [key, value] : dict.items) items.push_back(Value::tuple({key, value}));
  return Value::list(std::move(items));
}

bool has_method(const Value& object, std::string_view name) {
  if (object.string()) return true;
  return object.dict() && !object.dict()->is_namespace &&
         std::find(kDictMethods.begin(), kDictMethods.end(), name) != kDictMethods.end();
}

Value call_method(const Value& object, const std::string& name, const Arguments& arguments,
                  Meter& meter) {
  meter.charge(object.weight());
  if (object.string()) return string_method(*object.string(), name, arguments, meter);
  const Dict& dict = *object.dict();
  if (name == "items") return dict_items(dict);
  if (name == "keys") return Value::list(keys_of(dict));
  if (name == "copy") return object;
  if (name == "values") {
    std::vector<Value> values;
    for (const auto& [key, value] : dict.items) values.push_back(value);
    return Value::list(std::move(values));
  }
  const Value& key = required(arguments, 0, "", name);
  const Value* found = key.string() ? object.find(*key.string()) : nullptr;
  const Value* fallback = arguments.get(1, "default");
  return found ? *found : fallback ? *fallback : Value(None{});
}

bool is_function(std::string_view name) {
  return name == "range" || name == "namespace" || name == "dict" || name == "raise_exception" ||
         name == "strftime_now";
}

Value call_function(const std::string& name, const Arguments& arguments, std::time_t now,
                    Meter& meter) {
  if (name == "range") return range(arguments, meter);
  if (name == "namespace") return Value::make_namespace(arguments.named);
  if (name == "dict") return Value::dict(arguments.named);
  if (name == "strftime_now") {
    const std::string& format = string_of(required(arguments, 0, "format", name), name);
    meter.charge(format.size() * 16);
    return strftime_text(format, now);
  }
  throw Refusal(required(arguments, 0, "message", name).text());
}

}  // namespace ringtide::model::jinja

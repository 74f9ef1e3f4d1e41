#include <algorithm>
#include <cctype>

#include "model/jinja_builtins.h"
#include "model/jinja_strings.h"

namespace ringtide::model::jinja {

bool apply_test(const std::string& name, const Value& value, const Arguments& arguments,
                Meter& meter) {
  meter.charge(value.weight());
  for (const Value& argument : arguments.values) meter.charge(argument.weight());
  const auto other = [&]() -> const Value& { return required(arguments, 0, "", name); };
  if (name == "defined") return !value.is_undefined();
  if (name == "undefined") return value.is_undefined();
  if (name == "none") return value.is_none();
  if (name == "string") return value.string() != nullptr;
  if (name == "mapping") return value.dict() && !value.dict()->is_namespace;
  if (name == "sequence" || name == "iterable") {
    return value.string() || value.list() || (value.dict() && !value.dict()->is_namespace) ||
           value.is_undefined();
  }
  if (name == "number") return value.is_number();
  if (name == "integer") return value.as<int64_t>() != nullptr;
  if (name == "float") return value.as<double>() != nullptr;
  if (name == "boolean") return value.as<bool>() != nullptr;
  if (name == "true") return value.as<bool>() && *value.as<bool>();
  if (name == "false") return value.as<bool>() && !*value.as<bool>();
  if (name == "callable") return value.as<Function>() != nullptr;
  if (name == "equalto" || name == "eq" || name == "==" || name == "sameas") {
    return value == other();
  }
  if (name == "ne" || name == "!=") return !(value == other());
  if (name == "lt" || name == "<" || name == "lessthan") return compare(value, other()) < 0;
  if (name == "gt" || name == ">" || name == "greaterthan") return compare(value, other()) > 0;
  if (name == "le" || name == "<=") return compare(value, other()) <= 0;
  if (name == "ge" || name == ">=") return compare(value, other()) >= 0;
  if (name == "in") return contains(other(), value);
  if (name == "even") return integer_of(value, name) % 2 == 0;
  if (name == "odd") return integer_of(value, name) % 2 != 0;
  if (name == "divisibleby") {
    const int64_t by = integer_of(other(), name);
    if (by == 0 || by == -1) return by == -1;
    return integer_of(value, name) % by == 0;
  }
  if (name == "upper" || name == "lower") {
    const std::string& text = string_of(value, name);
    return (name == "upper" ? mapped(text, std::toupper) : mapped(text, std::tolower)) == text &&
           std::any_of(text.begin(), text.end(),
                       [](char c) { return std::isalpha(static_cast<unsigned char>(c)); });
  }
  throw Error("there is no test " + name + " here");
}

}  // namespace ringtide::model::jinja

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "model/jinja_builtins.h"
#include "model/jinja_strings.h"

namespace ringtide::model::jinja {
namespace {

constexpr size_t kNamedOnly = size_t{1} << 20;  // the position of an argument that has none

// "a.b" of an item.
Value path_of(Value item, std::string_view path) {
  while (true) {
    const size_t dot = path.find('.');
    item = item_of(item, path.substr(0, dot));
    if (dot == std::string_view::npos) return item;
    path.remove_prefix(dot + 1);
  }
}

// select, reject, selectattr, rejectattr.
Value selected(const std::string& name, const Value& value, const Arguments& arguments,
               Meter& meter) {
  const bool by_attribute = name.ends_with("attr"), keep = name.starts_with("select");
  Arguments rest = arguments;
  std::string path;
  if (by_attribute) {
    path = string_of(required(rest, 0, "attribute", name), name);
    rest.values.erase(rest.values.begin());
  }
  std::string test;
  if (!rest.values.empty()) {
    test = string_of(rest.values[0], name);
    rest.values.erase(rest.values.begin());
  }
  std::vector<Value> out;
  if (!value.truth()) return Value::list({});
  for (const Value& item : items_of(value, meter)) {
    const Value subject = by_attribute ? path_of(item, path) : item;
    if ((test.empty() ? subject.truth() : apply_test(test, subject, rest, meter)) == keep) {
      out.push_back(item);
    }
  }
  return Value::list(std::move(out));
}

Value mapped_items(const Value& value, const Arguments& arguments, Meter& meter) {
  std::vector<Value> out;
  if (!value.truth()) return Value::list({});
  const Value* attribute = arguments.get(kNamedOnly, "attribute");
  for (const Value& item : items_of(value, meter)) {
    if (attribute != nullptr) {
      Value found = path_of(item, string_of(*attribute, "map"));
      const Value* fallback = arguments.get(kNamedOnly, "default");
      out.push_back(found.is_undefined() && fallback ? *fallback : std::move(found));
    } else {
      Arguments rest = arguments;
      const std::string filter = string_of(required(rest, 0, "filter", "map"), "map");
      if (filter == "map") throw Error("map cannot apply map");
      rest.values.erase(rest.values.begin());
      out.push_back(apply_filter(filter, item, rest, meter));
    }
  }
  return Value::list(std::move(out));
}

Value sorted(const Value& value, const Arguments& arguments, Meter& meter) {
  std::vector<Value> items = items_of(value, meter);
  const Value* attribute = arguments.get(2, "attribute");
  const Value* reverse = arguments.get(0, "reverse");
  const Value* exact = arguments.get(1, "case_sensitive");
  const auto key = [&](const Value& item) {
    Value part = attribute ? path_of(item, string_of(*attribute, "sort")) : item;
    const bool fold = part.string() && !(exact && exact->truth());
    return fold ? Value(mapped(*part.string(), std::tolower)) : part;
  };
  meter.charge(value.weight() * 32);  // comparisons of each
  for (size_t i = 1; i < items.size(); ++i) compare(key(items[i - 1]), key(items[i]));
  const auto before = [&](const Value& a, const Value& b) { return compare(key(a), key(b)) < 0; };
  if (reverse && reverse->truth()) {
    std::stable_sort(items.begin(), items.end(),
                     [&](const Value& a, const Value& b) { return before(b, a); });
  } else {
    std::stable_sort(items.begin(), items.end(), before);
  }
  return Value::list(std::move(items));
}

std::string indented(const std::string& text, const Arguments& arguments, Meter& meter) {
  const Value* width = arguments.get(0, "width");
  const Value* first = arguments.get(1, "first");
  const Value* blank = arguments.get(2, "blank");
  std::string by(4, ' ');
  if (width && width->string()) {
    by = *width->string();
  } else if (width) {
    const int64_t columns = std::max<int64_t>(integer_of(*width, "indent"), 0);
    meter.charge(static_cast<size_t>(columns));
    by.assign(static_cast<size_t>(columns), ' ');
  }
  std::string out = first && first->truth() ? by : "";
  for (size_t i = 0; i < text.size(); ++i) {
    out += text[i];
    const bool empty_line = i + 1 == text.size() || text[i + 1] == '\n';
    if (text[i] != '\n' || (empty_line && !(blank && blank->truth()))) continue;
    meter.charge(by.size());
    out += by;
  }
  return out;
}

std::optional<double> number_in(const std::string& text) {
  const std::string trimmed = stripped(text, kBlanks, true, true);
  // No infinities, hexadecimals and the like.
  if (trimmed.find_first_not_of("0123456789+-.eE") != std::string::npos) return std::nullopt;
  char* end = nullptr;
  const double number = std::strtod(trimmed.c_str(), &end);
  if (trimmed.empty() || end != trimmed.c_str() + trimmed.size()) return std::nullopt;
  if (!std::isfinite(number)) return std::nullopt;
  return number;
}

// The filters int and float.
Value to_number(const Value& value, const Arguments& arguments, bool whole) {
  const int64_t* exact = value.as<int64_t>();
  if (whole && exact) return *exact;
  const Value* fallback = arguments.get(0, "default");
  std::optional<double> number;
  if (value.is_number()) number = value.number();
  if (value.string()) number = number_in(*value.string());
  if (!number && fallback) return *fallback;
  if (!whole) return number.value_or(0);
  const double rounded = std::trunc(number.value_or(0));
  if (!(std::abs(rounded) < 9e15)) throw Error("the number is too large for int");
  return static_cast<int64_t>(rounded);
}

}  // namespace

Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments,
                   Meter& meter) {
  meter.charge(value.weight());
  arguments.expect_names(
      name, {"attribute", "boolean", "blank", "case_sensitive", "chars", "count", "d", "default",
             "default_value", "first", "indent", "reverse", "width"});
  if (name == "trim") {
    const Value* set = arguments.get(0, "chars");
    return stripped(value.text(), set ? string_of(*set, name) : std::string(kBlanks), true, true);
  }
  if (name == "length" || name == "count") {
    if (value.string()) return static_cast<int64_t>(characters(*value.string()));
    if (value.list()) return static_cast<int64_t>(value.list()->items.size());
    if (value.dict()) return static_cast<int64_t>(value.dict()->items.size());
    if (value.is_undefined()) return 0;
    throw Error(value.kind() + " has no length");
  }
  if (name == "tojson") {
    const Value* indent = arguments.get(0, "indent");
    const bool lines = indent && !indent->is_none();
    const int64_t columns = lines ? integer_of(*indent, name) : -1;
    if (columns > 16) throw Error("tojson indents by 16 at most");
    std::string out = to_json(value, static_cast<int>(columns));
    meter.charge(out.size());
    return out;
  }
  if (name == "default" || name == "d") {
    const Value* fallback = arguments.get(0, "default_value");
    const Value* falsy = arguments.get(1, "boolean");
    const bool use = value.is_undefined() || (falsy && falsy->truth() && !value.truth());
    return use ? (fallback ? *fallback : Value("")) : value;
  }
  if (name == "join") {
    const Value* between = arguments.get(0, "d");
    std::vector<Value> items = items_of(value, meter);
    if (const Value* attribute = arguments.get(1, "attribute")) {
      for (Value& item : items) item = path_of(item, string_of(*attribute, name));
    }
    return joined(items, between ? string_of(*between, name) : "", meter);
  }
  if (name == "list") return Value::list(items_of(value, meter));
  if (name == "first" || name == "last") {
    const std::vector<Value> items = items_of(value, meter);
    if (items.empty()) return Undefined{"the " + name + " of nothing"};
    return name == "first" ? items.front() : items.back();
  }
  if (name == "reverse") {
    std::vector<Value> items = items_of(value, meter);
    std::reverse(items.begin(), items.end());
    return value.string() ? Value(joined(items, "", meter)) : Value::list(std::move(items));
  }
  if (name == "unique") {
    std::vector<Value> out;
    for (const Value& item : items_of(value, meter)) {
      meter.charge(item.weight() * (out.size() + 1));
      if (std::find(out.begin(), out.end(), item) == out.end()) out.push_back(item);
    }
    return Value::list(std::move(out));
  }
  if (name == "select" || name == "reject" || name == "selectattr" || name == "rejectattr") {
    return selected(name, value, arguments, meter);
  }
  if (name == "map") return mapped_items(value, arguments, meter);
  if (name == "sort") return sorted(value, arguments, meter);
  if (name == "items" || name == "dictsort") {
    if (value.is_undefined()) return Value::list({});
    if (!value.dict()) throw Error(name + " needs a mapping, not " + value.kind());
    if (name == "items") return dict_items(*value.dict());
    auto items = value.dict()->items;
    std::stable_sort(items.begin(), items.end(), [](const auto& a, const auto& b) {
      return mapped(a.first, std::tolower) < mapped(b.first, std::tolower);
    });
    return dict_items(Dict{std::move(items)});
  }
  if (name == "string") return value.text();
  if (name == "safe" || name == "e" || name == "escape") {
    if (name != "safe") throw Error("the filter " + name + " is not supported");
    return value;
  }
  if (name == "int") return to_number(value, arguments, true);
  if (name == "float") return to_number(value, arguments, false);
  if (name == "abs") {
    if (const int64_t* i = value.as<int64_t>()) return *i < 0 && *i != INT64_MIN ? -*i : *i;
    if (value.is_number()) return std::abs(value.number());
    throw Error("abs needs a number, not " + value.kind());
  }
  if (name == "indent") return indented(value.text(), arguments, meter);
  for (const std::string_view method : {"upper", "lower", "capitalize", "title", "replace"}) {
    if (name == method) return string_method(value.text(), name, arguments, meter);
  }
  throw Error("there is no filter " + name + " here");
}

}  // namespace ringtide::model::jinja

#include "model/jinja_builtins.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "model/utf8.h"

namespace ringtide::model::jinja {
namespace {

constexpr std::string_view kBlanks = " \t\n\r\f\v";
constexpr size_t kNamedOnly = size_t{1} << 20;  // the position of an argument that has none

const std::string& string_of(const Value& value, const std::string& what) {
  if (const std::string* text = value.string()) return *text;
  throw Error(what + " needs a string, not " + value.kind());
}

int64_t integer_of(const Value& value, const std::string& what) {
  if (const int64_t* number = value.as<int64_t>()) return *number;
  if (const bool* b = value.as<bool>()) return *b;
  throw Error(what + " needs a whole number, not " + value.kind());
}

const Value& required(const Arguments& arguments, size_t position, std::string_view name,
                      const std::string& what) {
  if (const Value* value = arguments.get(position, name)) return *value;
  throw Error(what + " needs an argument");
}

std::string mapped(std::string text, int (*letter)(int)) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x80) c = static_cast<char>(letter(c));
  }
  return text;
}

// "hello World" to "Hello world", or with `each` to "Hello World".
std::string capitalized(std::string text, bool each) {
  bool first = true;
  for (char& c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) {
      first = false;
      continue;
    }
    c = static_cast<char>(first ? std::toupper(c) : std::tolower(c));
    first = each && !std::isalpha(static_cast<unsigned char>(c));
  }
  return text;
}

std::string stripped(std::string_view text, std::string_view set, bool left, bool right) {
  if (left) text.remove_prefix(std::min(text.find_first_not_of(set), text.size()));
  if (right) text = text.substr(0, text.find_last_not_of(set) + 1);
  return std::string(text);
}

std::string replaced(std::string_view text, std::string_view what, std::string_view with,
                     int64_t times, Meter& meter) {
  std::string out;
  if (what.empty()) throw Error("replace needs something to replace");
  while (times-- != 0) {
    const size_t at = text.find(what);
    if (at == std::string_view::npos) break;
    meter.charge(at + with.size() + 1);
    out.append(text.substr(0, at)).append(with);
    text.remove_prefix(at + what.size());
  }
  return out.append(text);
}

Value list_of(const std::vector<std::string>& texts) {
  return Value::list({texts.begin(), texts.end()});
}

// As str.split(); without a separator at runs of blanks. `most` below 0: all.
Value split(std::string_view text, const Value* separator, int64_t most, Meter& meter) {
  meter.charge(text.size());
  std::vector<std::string> parts;
  if (separator == nullptr || separator->is_none()) {
    while (true) {
      text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
      if (text.empty()) break;
      size_t end = std::min(text.find_first_of(kBlanks), text.size());
      if (most == 0) end = text.size();
      --most;
      parts.emplace_back(text.substr(0, end));
      text.remove_prefix(end);
    }
    return list_of(parts);
  }
  const std::string& at = string_of(*separator, "split");
  if (at.empty()) throw Error("split needs a separator that is not empty");
  size_t found;
  while (most-- != 0 && (found = text.find(at)) != std::string_view::npos) {
    parts.emplace_back(text.substr(0, found));
    text.remove_prefix(found + at.size());
  }
  parts.emplace_back(text);
  return list_of(parts);
}

Value split_right(std::string_view text, const std::string& at, int64_t most, Meter& meter) {
  meter.charge(text.size());
  if (at.empty()) throw Error("rsplit needs a separator that is not empty");
  std::vector<std::string> parts;
  size_t found;
  while (most-- != 0 && (found = text.rfind(at)) != std::string_view::npos) {
    parts.emplace_back(text.substr(found + at.size()));
    text = text.substr(0, found);
  }
  parts.emplace_back(text);
  std::reverse(parts.begin(), parts.end());
  return list_of(parts);
}

std::string joined(const std::vector<Value>& items, std::string_view between, Meter& meter) {
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += between;
    const std::string text = items[i].text();
    meter.charge(between.size() + text.size() + 1);
    out += text;
  }
  return out;
}

Value dict_items(const Dict& dict) {
  std::vector<Value> items;
  for (const auto& [key, value] : dict.items) items.push_back(Value::tuple({key, value}));
  return Value::list(std::move(items));
}

std::vector<Value> keys_of(const Dict& dict) {
  std::vector<Value> keys;
  for (const auto& [key, value] : dict.items) keys.emplace_back(key);
  return keys;
}

size_t characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

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

Value string_method(const std::string& text, const std::string& name, const Arguments& arguments,
                    Meter& meter) {
  const Value* first = arguments.get(0, "");
  const auto count_at = [&](size_t position, std::string_view key) -> int64_t {
    const Value* value = arguments.get(position, key);
    return value ? integer_of(*value, name) : -1;
  };
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const bool all = first == nullptr || first->is_none();
    return stripped(text, all ? std::string(kBlanks) : string_of(*first, name), name[0] != 'r',
                    name[0] != 'l');
  }
  if (name == "split") {
    return split(text, arguments.get(0, "sep"), count_at(1, "maxsplit"), meter);
  }
  if (name == "rsplit") {
    const std::string& at = string_of(required(arguments, 0, "sep", name), name);
    return split_right(text, at, count_at(1, "maxsplit"), meter);
  }
  if (name == "splitlines") {
    std::string lines = replaced(text, "\r\n", "\n", -1, meter);
    if (lines.ends_with('\n')) lines.pop_back();
    const Value newline("\n");
    return text.empty() ? Value::list({}) : split(lines, &newline, -1, meter);
  }
  if (name == "startswith" || name == "endswith") {
    const Value& wanted = required(arguments, 0, "", name);
    const auto holds = [&](const Value& one) {
      const std::string& part = string_of(one, name);
      return name[0] == 's' ? text.starts_with(part) : text.ends_with(part);
    };
    if (!wanted.list()) return holds(wanted);
    return std::any_of(wanted.list()->items.begin(), wanted.list()->items.end(), holds);
  }
  if (name == "replace") {
    return replaced(text, string_of(required(arguments, 0, "", name), name),
                    string_of(required(arguments, 1, "", name), name), count_at(2, "count"), meter);
  }
  if (name == "find" || name == "count") {
    const std::string& part = string_of(required(arguments, 0, "", name), name);
    if (name == "find") {
      const size_t at = text.find(part);
      if (at == std::string::npos) return -1;
      return static_cast<int64_t>(characters(std::string_view(text).substr(0, at)));
    }
    int64_t count = 0;
    if (part.empty()) throw Error("count needs a string that is not empty");
    for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
    return count;
  }
  if (name == "join") return joined(items_of(required(arguments, 0, "", name), meter), text, meter);
  if (name == "isdigit") {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  }
  if (name == "upper") return mapped(text, std::toupper);
  if (name == "lower") return mapped(text, std::tolower);
  if (name == "capitalize") return capitalized(text, false);
  if (name == "title") return capitalized(text, true);
  throw Error("strings have no method " + name + " here");
}

constexpr std::array<std::string_view, 5> kDictMethods = {"items", "keys", "values", "get", "copy"};

}  // namespace

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

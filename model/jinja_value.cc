#include "model/jinja_value.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace ringtide::model::jinja {
namespace {

// Python's repr() of a string, but for which of the unprintable it escapes.
std::string quoted(std::string_view text) {
  const bool single = text.find('\'') == std::string_view::npos || text.find('"') != text.npos;
  const char quote = single ? '\'' : '"';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == '\\' || c == quote) {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      out += c;
    }
  }
  return out + quote;
}

// The shortest decimal that reads back as the same number, with a point, as Python writes it.
std::string float_text(double value) {
  char text[40];
  for (int digits = 1; digits <= 17; ++digits) {
    std::snprintf(text, sizeof(text), "%.*g", digits, value);
    if (std::strtod(text, nullptr) == value) break;
  }
  std::string out = text;
  if (out.find_first_of(".e") == std::string::npos) return out + ".0";
  return out;
}

std::string repr(const Value& value) {
  return value.string() ? quoted(*value.string()) : value.text();
}

int depth_of(const Value& value) {
  if (const List* list = value.list()) return list->depth;
  if (const Dict* dict = value.dict()) {
    if (dict->is_namespace) throw Error("a namespace cannot be kept within another value");
    return dict->depth;
  }
  return 0;
}

int checked_depth(int deepest) {
  if (deepest >= Value::kMaxDepth) throw Error("lists are nested too deep");
  return deepest + 1;
}

size_t checked_weight(size_t weight) {
  if (weight > Value::kMaxWeight) throw Error("a list is too large");
  return weight;
}

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          char escape[8];
          std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
          out += escape;
        } else {
          out += c;
        }
    }
  }
  return out + '"';
}

void write_json(const Value& value, int indent, int level, std::string& out) {
  const auto line = [&](int at) {
    if (indent >= 0) out += '\n' + std::string(static_cast<size_t>(at) * indent, ' ');
  };
  const char* comma = indent >= 0 ? "," : ", ";
  if (const List* list = value.list()) {
    out += '[';
    for (size_t i = 0; i < list->items.size(); ++i) {
      if (i > 0) out += comma;
      line(level + 1);
      write_json(list->items[i], indent, level + 1, out);
    }
    if (!list->items.empty()) line(level);
    out += ']';
  } else if (const Dict* dict = value.dict()) {
    out += '{';
    for (size_t i = 0; i < dict->items.size(); ++i) {
      if (i > 0) out += comma;
      line(level + 1);
      out += json_string(dict->items[i].first) + ": ";
      write_json(dict->items[i].second, indent, level + 1, out);
    }
    if (!dict->items.empty()) line(level);
    out += '}';
  } else if (value.string()) {
    out += json_string(*value.string());
  } else if (const bool* b = value.as<bool>()) {
    out += *b ? "true" : "false";
  } else if (value.is_none()) {
    out += "null";
  } else if (value.is_number()) {
    out += value.text();
  } else {
    throw Error("tojson: " + value.kind() + " has no JSON");
  }
}

}  // namespace

Value Value::list(std::vector<Value> items) {
  auto list = std::make_shared<List>();
  int deepest = 0;
  for (const Value& item : items) {
    deepest = std::max(deepest, depth_of(item));
    list->weight = checked_weight(list->weight + item.weight());
  }
  list->depth = checked_depth(deepest);
  list->items = std::move(items);
  Value value;
  value.data_ = std::move(list);
  return value;
}

Value Value::tuple(std::vector<Value> items) {
  Value value = list(std::move(items));
  std::get<std::shared_ptr<List>>(value.data_)->is_tuple = true;
  return value;
}

Value Value::dict(std::vector<std::pair<std::string, Value>> items) {
  auto dict = std::make_shared<Dict>();
  int deepest = 0;
  for (auto& [key, item] : items) {
    deepest = std::max(deepest, depth_of(item));
    dict->weight = checked_weight(dict->weight + key.size() + item.weight());
    const auto same = [&k = key](const auto& entry) { return entry.first == k; };
    const auto found = std::find_if(dict->items.begin(), dict->items.end(), same);
    if (found != dict->items.end()) {
      found->second = std::move(item);
    } else {
      dict->items.emplace_back(std::move(key), std::move(item));
    }
  }
  dict->depth = checked_depth(deepest);
  Value value;
  value.data_ = std::move(dict);
  return value;
}

Value Value::make_namespace(std::vector<std::pair<std::string, Value>> items) {
  Value value = dict(std::move(items));
  std::get<std::shared_ptr<Dict>>(value.data_)->is_namespace = true;
  return value;
}

const List* Value::list() const {
  const auto* list = std::get_if<std::shared_ptr<List>>(&data_);
  return list ? list->get() : nullptr;
}

const Dict* Value::dict() const {
  const auto* dict = std::get_if<std::shared_ptr<Dict>>(&data_);
  return dict ? dict->get() : nullptr;
}

double Value::number() const {
  if (const int64_t* i = as<int64_t>()) return static_cast<double>(*i);
  if (const bool* b = as<bool>()) return *b ? 1 : 0;
  return *as<double>();
}

size_t Value::weight() const {
  if (string()) return string()->size() + 1;
  if (list()) return list()->weight + 1;
  if (const Dict* d = dict()) {
    if (!d->is_namespace) return d->weight + 1;
    size_t weight = 1;
    for (const auto& [key, value] : d->items) weight += key.size() + value.weight();
    return weight;
  }
  return 1;
}

std::string Value::kind() const {
  if (const Undefined* u = as<Undefined>()) {
    return u->name.empty() ? "something undefined" : "undefined (" + u->name + ")";
  }
  if (is_none()) return "none";
  if (as<bool>()) return "a boolean";
  if (as<int64_t>() || as<double>()) return "a number";
  if (string()) return "a string";
  if (list()) return "a list";
  if (dict()) return dict()->is_namespace ? "a namespace" : "a mapping";
  return "a function";
}

bool Value::truth() const {
  if (const bool* b = as<bool>()) return *b;
  if (is_number()) return number() != 0;
  if (string()) return !string()->empty();
  if (list()) return !list()->items.empty();
  if (dict()) return dict()->is_namespace || !dict()->items.empty();
  return as<Function>() != nullptr;
}

std::string Value::text() const {
  if (string()) return *string();
  if (is_undefined()) return "";
  if (is_none()) return "None";
  if (const bool* b = as<bool>()) return *b ? "True" : "False";
  if (const int64_t* i = as<int64_t>()) return std::to_string(*i);
  if (const double* d = as<double>()) return float_text(*d);
  std::string out;
  if (list()) {
    for (const Value& item : list()->items) out += (out.empty() ? "" : ", ") + repr(item);
    if (!list()->is_tuple) return '[' + out + ']';
    return '(' + out + (list()->items.size() == 1 ? ",)" : ")");
  }
  if (dict()) {
    for (const auto& [key, item] : dict()->items) {
      out += (out.empty() ? "" : ", ") + quoted(key) + ": " + repr(item);
    }
    return '{' + out + '}';
  }
  throw Error(as<Function>()->name + " is a function, not a text");
}

const Value* Value::find(std::string_view key) const {
  if (const Dict* d = dict()) {
    for (const auto& [name, value] : d->items) {
      if (name == key) return &value;
    }
  }
  return nullptr;
}

void Value::set(std::string_view key, Value value) const {
  checked_depth(depth_of(value));
  auto& items = std::get<std::shared_ptr<Dict>>(data_)->items;
  for (auto& [name, old] : items) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  items.emplace_back(key, std::move(value));
}

bool operator==(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    const int64_t *i = a.as<int64_t>(), *j = b.as<int64_t>();
    return i && j ? *i == *j : a.number() == b.number();
  }
  if (a.string() && b.string()) return *a.string() == *b.string();
  if (a.is_none() && b.is_none()) return true;
  if (a.is_undefined() && b.is_undefined()) return true;
  if (a.list() && b.list()) {
    if (a.list()->is_tuple != b.list()->is_tuple) return false;
    return a.list() == b.list() || a.list()->items == b.list()->items;
  }
  if (a.dict() && b.dict()) {
    if (a.dict() == b.dict()) return true;
    if (a.dict()->items.size() != b.dict()->items.size()) return false;
    for (const auto& [key, value] : a.dict()->items) {
      const Value* other = b.find(key);
      if (other == nullptr || !(value == *other)) return false;
    }
    return true;
  }
  return false;
}

int compare(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.number() < b.number() ? -1 : a.number() > b.number() ? 1 : 0;
  }
  if (a.string() && b.string()) return a.string()->compare(*b.string());
  throw Error(a.kind() + " and " + b.kind() + " have no order");
}

std::string to_json(const Value& value, int indent) {
  std::string out;
  write_json(value, indent, 0, out);
  return out;
}

}  // namespace ringtide::model::jinja

#include "model/jinja_strings.h"

#include <algorithm>
#include <cctype>

#include "model/jinja_builtins.h"

namespace ringtide::model::jinja {
namespace {

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

}  // namespace

std::string mapped(std::string text, int (*letter)(int)) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x80) c = static_cast<char>(letter(c));
  }
  return text;
}

std::string stripped(std::string_view text, std::string_view set, bool left, bool right) {
  if (left) text.remove_prefix(std::min(text.find_first_not_of(set), text.size()));
  if (right) text = text.substr(0, text.find_last_not_of(set) + 1);
  return std::string(text);
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

size_t characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
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

}  // namespace ringtide::model::jinja

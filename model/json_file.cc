#include "model/json_file.h"

#include <cmath>
#include <set>

#include "model/file_tensor.h"
#include "model/types.h"

namespace ringtide::model {
namespace {

using nlohmann::json;

std::string shown(const json& value) {
  constexpr size_t kShown = 60;
  if (value.is_object() || value.is_array()) return value.is_array() ? "an array" : "an object";
  if (value.is_string()) return model::quoted(value.get_ref<const std::string&>());
  const std::string text = value.dump();
  return text.size() > kShown ? text.substr(0, kShown) + "..." : text;
}

}  // namespace

json parse_json(std::string_view text, const std::string& owner) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
        keys.emplace_back();
        [[fallthrough]];
      case json::parse_event_t::array_start:
        if (depth >= kDeepestJson) {
          throw ModelError(owner + ": is nested deeper than " + std::to_string(kDeepestJson));
        }
        break;
      case json::parse_event_t::object_end:
        keys.pop_back();
        break;
      case json::parse_event_t::key:
        if (!keys.back().insert(parsed.get<std::string>()).second) {
          throw ModelError(owner + ": has the key " +
                           model::quoted(parsed.get_ref<std::string&>()) + " twice in one object");
        }
        break;
      default:
        break;
    }
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::exception& error) {
    // What the library says quotes the text: bytes that a message should not show as they are.
    const auto* syntax = dynamic_cast<const json::parse_error*>(&error);
    throw ModelError(owner + ": is no JSON" +
                     (syntax != nullptr ? " from byte " + std::to_string(syntax->byte) : "") +
                     "; the file is damaged: fetch it again");
  }
}

JsonObject::JsonObject(const json& value, std::string owner, std::string path)
    : value_(&value), owner_(std::move(owner)), path_(std::move(path)) {
  if (!value.is_object()) {
    throw ModelError(owner_ + ": " + (path_.empty() ? "" : model::quoted(path_) + " ") + "is " +
                     shown(value) + ", not an object");
  }
}

void JsonObject::fail(const std::string& key, const std::string& what) const {
  throw ModelError(owner_ + ": " + model::quoted(path_ + key) + " " + what);
}

const json* JsonObject::find(const std::string& key) const {
  const auto found = value_->find(key);
  return found == value_->end() || found->is_null() ? nullptr : &*found;
}

std::optional<int64_t> JsonObject::integer(const std::string& key, int64_t low,
                                           int64_t high) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) fail(key, "is " + shown(*value) + ", not an integer");
  const bool huge = value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX;
  if (huge || value->get<int64_t>() < low || value->get<int64_t>() > high) {
    fail(key, "is " + shown(*value) + "; it must be from " + std::to_string(low) + " to " +
                  std::to_string(high));
  }
  return value->get<int64_t>();
}

std::optional<double> JsonObject::number(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    fail(key, "is " + shown(*value) + ", not a finite number");
  }
  return value->get<double>();
}

std::optional<bool> JsonObject::boolean(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) fail(key, "is " + shown(*value) + ", not true or false");
  return value->get<bool>();
}

std::optional<std::string> JsonObject::string(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(key, "is " + shown(*value) + ", not a string");
  return value->get<std::string>();
}

std::optional<JsonObject> JsonObject::object(const std::string& key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return JsonObject(*value, owner_, path_ + key + ".");
}

const json* JsonObject::array(const std::string& key) const {
  const json* value = find(key);
  if (value != nullptr && !value->is_array()) fail(key, "is " + shown(*value) + ", not an array");
  return value;
}

}  // namespace ringtide::model

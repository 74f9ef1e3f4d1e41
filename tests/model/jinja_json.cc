#include "tests/model/jinja_json.h"

namespace ringtide::model::jinja {

Value from_json(const nlohmann::ordered_json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<int64_t>();
  if (json.is_number()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  if (json.is_array()) {
    std::vector<Value> items;
    for (const auto& item : json) items.push_back(from_json(item));
    return Value::list(std::move(items));
  }
  if (json.is_object()) {
    std::vector<std::pair<std::string, Value>> items;
    for (const auto& [key, value] : json.items()) items.emplace_back(key, from_json(value));
    return Value::dict(std::move(items));
  }
  return None{};
}

}  // namespace ringtide::model::jinja

// Fields of a JSON text from a file that is not to be trusted: typed, and refused by name.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ringtide::model {

// Throws ModelError "OWNER: what": no JSON, a key that is there twice in one object, or nesting
// beyond kDeepestJson.
inline constexpr int kDeepestJson = 32;
nlohmann::json parse_json(std::string_view text, const std::string& owner);

// An object within a file. Points to it.
class JsonObject {
 public:
  // `path`: of the object within its file, as "rope_scaling."; empty: the whole. Throws ModelError:
  // the value is no object.
  JsonObject(const nlohmann::json& value, std::string owner, std::string path = "");

  // Null where there is no such key, or its value is null.
  const nlohmann::json* find(const std::string& key) const;
  bool has(const std::string& key) const { return find(key) != nullptr; }

  // These throw ModelError: the value is there and of another kind, or out of range.
  std::optional<int64_t> integer(const std::string& key, int64_t low, int64_t high) const;
  std::optional<double> number(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const;
  std::optional<std::string> string(const std::string& key) const;
  std::optional<JsonObject> object(const std::string& key) const;
  // Null where there is none.
  const nlohmann::json* array(const std::string& key) const;

  // Throws ModelError "OWNER: "KEY" is missing".
  template <class T>
  T require(const std::string& key, std::optional<T> value) const {
    if (!value) fail(key, "is missing");
    return *std::move(value);
  }
  // Throws ModelError "OWNER: "KEY" what".
  [[noreturn]] void fail(const std::string& key, const std::string& what) const;

  const nlohmann::json& value() const { return *value_; }
  const std::string& owner() const { return owner_; }

 private:
  const nlohmann::json* value_;
  std::string owner_, path_;
};

}  // namespace ringtide::model

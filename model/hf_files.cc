#include "model/hf_files.h"

#include <set>

#include "model/file_tensor.h"

namespace ringtide::model {

using nlohmann::json;

std::vector<std::string> indexed_files(const JsonObject& index) {
  const auto map = index.object("weight_map");
  if (!map) index.fail("weight_map", "is missing");
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->value().items()) {
    if (!file.is_string()) map->fail(tensor, "must be the name of a file");
    const auto& name = file.get_ref<const std::string&>();
    if (name.find('/') != std::string::npos || !name.ends_with(".safetensors")) {
      map->fail(tensor, "is " + model::quoted(name) + ", not a safetensors file of this folder");
    }
    names.insert(name);
  }
  if (names.empty()) index.fail("weight_map", "is empty");
  return {names.begin(), names.end()};
}

std::string template_in(const JsonObject& tokenizer_config) {
  const json* found = tokenizer_config.find("chat_template");
  if (!found) return "";
  if (!found->is_array()) return *tokenizer_config.string("chat_template");
  for (const json& entry : *found) {
    if (entry.is_object() && entry.value("name", json()) == "default" &&
        entry.value("template", json()).is_string()) {
      return entry["template"].get<std::string>();
    }
  }
  tokenizer_config.fail("chat_template", "has no template called \"default\"");
}

}  // namespace ringtide::model

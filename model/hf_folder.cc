#include "model/hf_folder.h"

#include <array>
#include <filesystem>
#include <optional>
#include <vector>

#include "model/fingerprint.h"
#include "model/hf_config.h"
#include "model/hf_files.h"
#include "model/hf_tokenizer.h"
#include "model/json_file.h"
#include "model/read_tensors.h"
#include "model/safetensors.h"
#include "model/tokenizer_tables.h"

namespace ringtide::model {
namespace {

using nlohmann::json;

// A JSON file, and its bytes.
class JsonText {
 public:
  JsonText(const std::string& folder, const std::string& name)
      : path_(folder + "/" + name),
        file_(path_, "a Hugging Face folder"),
        parsed_(parse_json(text(), path_)) {}

  std::string_view text() const {
    return {reinterpret_cast<const char*>(file_.bytes().data()), file_.bytes().size()};
  }
  JsonObject object() const { return {parsed_, path_}; }

 private:
  std::string path_;
  MappedFile file_;
  json parsed_;
};

std::optional<JsonText> optional_json(const std::string& folder, const std::string& name) {
  if (!std::filesystem::exists(folder + "/" + name)) return std::nullopt;
  return std::make_optional<JsonText>(folder, name);
}

std::optional<JsonObject> object_of(const std::optional<JsonText>& text) {
  return text ? std::make_optional(text->object()) : std::nullopt;
}

// Files of the folder that hold the tensors.
std::vector<std::string> weight_files(const std::string& folder) {
  const std::optional<JsonText> index = optional_json(folder, "model.safetensors.index.json");
  if (!index) return {"model.safetensors"};
  return indexed_files(index->object());
}

// The folder's own template: a file of its own, or in tokenizer_config.json.
std::string read_template(const std::string& folder, const std::optional<JsonObject>& config) {
  const std::string path = folder + "/chat_template.jinja";
  if (std::filesystem::exists(path)) {
    const MappedFile file(path, "a template");
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
  }
  return config ? template_in(*config) : "";
}

// What of the folder decides how text becomes tokens.
class TextFiles {
 public:
  explicit TextFiles(const std::string& folder)
      : folder_(folder),
        config_(folder, "config.json"),
        tokenizer_(folder, "tokenizer.json"),
        tokens_(optional_json(folder, "tokenizer_config.json")),
        generation_(optional_json(folder, "generation_config.json")) {}

  JsonObject config() const { return config_.object(); }

  std::shared_ptr<const Tokenizer> tokenizer(int32_t vocabulary) const {
    const HfTokenizer read = read_hf_tokenizer(tokenizer_.object(), object_of(tokens_),
                                               object_of(generation_), vocabulary);
    try {
      return make_tokenizer(read.tables);
    } catch (const ModelError& error) {
      throw ModelError(folder_ + "/tokenizer.json: " + error.what());
    }
  }

  std::string chat_template() const { return read_template(folder_, object_of(tokens_)); }

  // Whole, those that are not there as nothing.
  std::array<std::string_view, 4> texts() const {
    const auto text = [](const std::optional<JsonText>& file) {
      return file ? file->text() : std::string_view();
    };
    return {config_.text(), tokenizer_.text(), text(tokens_), text(generation_)};
  }

 private:
  std::string folder_;
  JsonText config_, tokenizer_;
  std::optional<JsonText> tokens_, generation_;
};

}  // namespace

std::shared_ptr<const Tokenizer> load_hf_tokenizer(const std::string& folder) {
  const TextFiles text(folder);
  return text.tokenizer(read_hf_config(text.config()).vocabulary);
}

std::shared_ptr<const Model> load_hf_folder(const std::string& folder, bool with_tokenizer) {
  auto model = std::make_shared<Model>();
  model->path = folder;
  const TextFiles text(folder);
  model->config = read_hf_config(text.config());
  model->config.name = std::filesystem::weakly_canonical(folder).filename().string();

  std::vector<SafetensorsFile> files;
  for (const std::string& name : weight_files(folder)) {
    files.push_back(SafetensorsFile::open(folder + "/" + name));
  }
  TensorSet tensors(folder);
  for (const SafetensorsFile& file : files) {
    tensors.add(file.tensors());
    model->files.push_back(file.mapping());
  }
  const Architecture& architecture = *find_architecture(model->config.architecture);
  model->tensors = read_tensors(tensors, hugging_face_names(architecture), model->config);
  if (with_tokenizer) model->tokenizer = text.tokenizer(model->config.vocabulary);
  model->chat_template = text.chat_template();
  model->fingerprint = fingerprint(tensors, text.texts());
  return model;
}

}  // namespace ringtide::model

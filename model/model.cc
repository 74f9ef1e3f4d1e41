#include "model/model.h"

#include <filesystem>

#include "model/config.h"
#include "model/fingerprint.h"
#include "model/gguf.h"
#include "model/hf_folder.h"
#include "model/read_tensors.h"
#include "model/shard_model.h"
#include "model/tokenizer.h"

namespace ringtide::model {

namespace {

std::shared_ptr<const Model> load(const std::string& path, bool with_tokenizer) {
  if (std::filesystem::is_directory(path)) return load_hf_folder(path, with_tokenizer);
  const GgufFile file = GgufFile::open(path);
  auto model = std::make_shared<Model>();
  model->path = path;
  model->config = read_config(file);
  model->chat_template = file.find<std::string_view>("tokenizer.chat_template").value_or("");
  if (with_tokenizer) model->tokenizer = Tokenizer::from_gguf(file);
  model->tensors = read_tensors(file, model->config);
  model->fingerprint = model::fingerprint(file);
  model->files = {file.mapping()};
  return model;
}

}  // namespace

std::shared_ptr<const Model> Model::load(const std::string& path) {
  return model::load(path, true);
}
std::shared_ptr<const Model> load_shard_model(const std::string& path) { return load(path, false); }

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& path) {
  if (std::filesystem::is_directory(path)) return load_hf_tokenizer(path);
  return Tokenizer::from_gguf(GgufFile::open(path));
}

}  // namespace ringtide::model

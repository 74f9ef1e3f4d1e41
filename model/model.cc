#include "model/model.h"

#include <utility>

#include "model/config.h"
#include "model/fingerprint.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "model/weights.h"

namespace ringtide::model {

std::shared_ptr<const Model> Model::load(const std::string& path, kernels::ThreadPool& threads,
                                         const Progress& progress) {
  auto file = std::make_shared<const GgufFile>(GgufFile::open(path));
  auto model = std::make_shared<Model>();
  model->path = path;
  model->config = read_config(*file);
  model->chat_template = file->find<std::string_view>("tokenizer.chat_template").value_or("");
  model->tokenizer = Tokenizer::from_gguf(*file);

  Weights weights = load_weights(*file, model->config, threads, progress);
  model->embedding = weights.embedding;
  model->layers = std::move(weights.layers);
  model->output_norm = weights.output_norm;
  model->output = weights.output;
  model->weight_bytes =
      weights.packed_bytes +
      kernels::row_bytes(model->embedding.type, model->config.hidden) * model->config.vocabulary;
  model->fingerprint = model::fingerprint(*file);
  file->forget_pages();
  model->memory = std::make_shared<
      const std::pair<std::shared_ptr<const GgufFile>, std::shared_ptr<const void>>>(
      std::move(file), std::move(weights.memory));
  return model;
}

}  // namespace ringtide::model

// From the tensors of a file to weights the kernels can use.
#pragma once

#include <memory>
#include <vector>

#include "kernels/threads.h"
#include "model/gguf.h"
#include "model/model.h"

namespace ringtide::model {

struct Weights {
  Embedding embedding;  // points into the file
  std::vector<LayerWeights> layers;
  const float* output_norm = nullptr;
  kernels::PackedMatrix output;
  int64_t packed_bytes = 0;
  std::shared_ptr<const void> memory;  // owns all but the embedding
};

// Checks every tensor's type and shape against the configuration before any is touched, and then
// packs them into one allocation. Throws ModelError: a tensor that is missing, that has another
// shape, whose type is not served, or that the forward pass does not know and would therefore
// ignore.
Weights load_weights(const GgufFile& file, const ModelConfig& config, kernels::ThreadPool& threads,
                     const Progress& progress);

}  // namespace ringtide::model

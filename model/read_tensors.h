// From the tensors of files to those of a model.
#pragma once

#include "model/file_tensor.h"
#include "model/gguf.h"
#include "model/model.h"
#include "model/tensor_names.h"
#include "model/tensors.h"

namespace ringtide::model {

// Checks every tensor's type and shape against the configuration. Matrices point into the files.
// Throws ModelError: a tensor that is missing, that has another shape, whose type is not served,
// that holds a norm that is not finite, or that the forward pass does not know and would therefore
// ignore.
Tensors read_tensors(const TensorSet& files, const TensorNames& names, const ModelConfig& config);
Tensors read_tensors(const GgufFile& file, const ModelConfig& config);

}  // namespace ringtide::model

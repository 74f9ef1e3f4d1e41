// From the tensors of a GGUF file to those of the model.
#pragma once

#include "model/gguf.h"
#include "model/model.h"
#include "model/tensors.h"

namespace ringtide::model {

// Checks every tensor's type and shape against the configuration. Matrices point into the file.
// Throws ModelError: a tensor that is missing, that has another shape, whose type is not served,
// that holds a norm that is not finite, or that the forward pass does not know and would therefore
// ignore.
Tensors read_tensors(const GgufFile& file, const ModelConfig& config);

}  // namespace ringtide::model

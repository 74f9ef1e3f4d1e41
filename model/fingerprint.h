// What makes two model files the same model.
#pragma once

#include <string>

#include "model/gguf.h"

namespace ringtide::model {

// 32 hex digits: XXH3-128 over the name, type, shape and bytes of each tensor, and over the
// metadata that change numbers or tokens: the architecture's, the tokenizer's and the architecture
// itself. The order in the file, its alignment, names and licences do not matter.
std::string fingerprint(const GgufFile& file);
// The same of a folder: over its tensors, and over files that change numbers or tokens, whole.
std::string fingerprint(const TensorSet& tensors, std::span<const std::string_view> texts);

}  // namespace ringtide::model

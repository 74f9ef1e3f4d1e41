// The shape of a model, from the metadata of its file.
#pragma once

#include "model/gguf.h"
#include "model/model.h"

namespace ringtide::model {

// Throws ModelError: an architecture that is not served (named, with the list of those that are), a
// value that is missing or out of range, or one that would change the numbers in a way that is not
// supported.
ModelConfig read_config(const GgufFile& file);

}  // namespace ringtide::model

// The shape of a model, from the config.json of a Hugging Face folder.
#pragma once

#include "model/json_file.h"
#include "model/model.h"

namespace ringtide::model {

// Throws ModelError: an architecture that is not served (named, with the list of those that are), a
// value that is missing or out of range, or one that would change the numbers in a way that is not
// supported.
ModelConfig read_hf_config(const JsonObject& config);

}  // namespace ringtide::model

// A model in a Hugging Face folder: config.json, tokenizer.json, and *.safetensors, one file or
// shards listed in model.safetensors.index.json.
#pragma once

#include <memory>
#include <string>

#include "model/model.h"

namespace ringtide::model {

// Maps and validates. Throws ModelError that names the file and the field. Without a tokenizer it is
// null.
std::shared_ptr<const Model> load_hf_folder(const std::string& folder, bool with_tokenizer = true);
// Its tokenizer alone.
std::shared_ptr<const Tokenizer> load_hf_tokenizer(const std::string& folder);

}  // namespace ringtide::model

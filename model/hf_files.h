// Of a Hugging Face folder: which files hold its tensors, and the template beside its tokenizer.
#pragma once

#include <string>
#include <vector>

#include "model/json_file.h"

namespace ringtide::model {

// The files that model.safetensors.index.json names, each once and in order: plain names, of this
// folder. Throws ModelError.
std::vector<std::string> indexed_files(const JsonObject& index);

// The chat template in tokenizer_config.json, as text or as a list of which one is called
// "default"; empty where there is none. Throws ModelError.
std::string template_in(const JsonObject& tokenizer_config);

}  // namespace ringtide::model

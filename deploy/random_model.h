// Models without files, for measurements.
#pragma once

#include <memory>
#include <string>

#include "model/model.h"

namespace ringtide::deploy {

// Without tensors, of which a GPU's engine makes random ones, and without a tokenizer. `shape`:
// llama3-8b.
std::shared_ptr<const model::Model> random_model(const std::string& shape);

}  // namespace ringtide::deploy

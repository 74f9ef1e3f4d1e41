// A model as those shards of a ring need it that have no sessions.
#pragma once

#include <memory>
#include <string>

#include "model/model.h"

namespace ringtide::model {

// Of a file or folder that Model::load takes: all but the tokenizer, which is null. Making one takes a
// quarter of the time in which the shard of a small model starts. Throws ModelError.
std::shared_ptr<const Model> load_shard_model(const std::string& path);

}  // namespace ringtide::model

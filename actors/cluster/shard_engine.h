// How a shard makes its engine: on a ring, over a store for the units that it owns.
#pragma once

#include <functional>
#include <memory>

#include "model/engine.h"
#include "model/shard_transport.h"
#include "model/unit_store.h"

namespace ringtide::actors::cluster {

// Called by all shards of a ring at once, each on the thread that will drive the engine; its calls
// are collective, in the same order on every shard, but for has(), stats() and last_used(). The
// transport outlives the engine.
using MakeShardEngine =
    std::function<std::unique_ptr<model::Engine>(model::UnitStore&, model::ShardTransport&)>;

}  // namespace ringtide::actors::cluster

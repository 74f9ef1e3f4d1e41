// The engine without a model (fake_engine.h) on a ring: each call gathers a checksum of its
// arguments from all shards first, and ends the ring where they do not agree.
#pragma once

#include <memory>

#include "model/shard_transport.h"
#include "tests/support/fake_engine.h"

namespace ringtide::testing {

// `world`, of this shard or of several, outlives it; so does `transport`.
std::unique_ptr<model::Engine> make_fake_shard_engine(FakeWorld& world, model::UnitStore* units,
                                                      model::ShardTransport& transport);

}  // namespace ringtide::testing

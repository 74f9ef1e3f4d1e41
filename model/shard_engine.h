// The engine of one shard of a ring of CPUs, which share the keys and values of every context.
#pragma once

#include <memory>

#include "model/engine.h"
#include "model/shard_transport.h"

namespace ringtide::model {

// Each call is made on all shards, in the same order and with the same arguments, and gives the
// same result on all (stats and last_used tell of this shard where they tell of bytes and reads).
// With one shard it is make_cpu_engine's.
//
// Prompts are computed by all shards together; of few rows each computes all, and attends with what
// it has. Units lie in `own_units` of the shards that keep their page (page_owners.h); those that
// rings of other sizes left there are used. Between numbers of shards results are equal up to
// rounding; where a session ran on one number alone every bit is reproducible.
//
// open() and restore() throw the same on all shards, whichever one has no room. A pass that cannot
// go on throws RingError (shard_transport.h), or on the shard where it began what went wrong there:
// the ring is over then, and everything is restored by new engines. `transport` is at its step 0
// and is used by the engine's calls alone; both must outlive the engine.
std::unique_ptr<Engine> make_shard_engine(std::shared_ptr<const Model> model,
                                          const EngineOptions& options, UnitStore& own_units,
                                          ShardTransport& transport,
                                          std::shared_ptr<const CpuWeights> weights = nullptr);

}  // namespace ringtide::model

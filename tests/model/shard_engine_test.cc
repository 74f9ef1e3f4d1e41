// A ring of CPU engines does what every engine does, and what a lone one of the same model does.
#include "model/shard_engine.h"

#include <cmath>

#include "tests/model/engine_instances.h"
#include "tests/support/sharded_engine.h"

namespace ringtide::testing {
namespace {

EngineKind shard_kind(const char* name, int shards) {
  EngineKind kind = cpu_kind();
  kind.name = name;
  kind.small_budget = 300 << 10;  // of each shard
  kind.make = [shards](auto model, const auto& options, auto& units) {
    return make_sharded_engine(shards, model, options, dynamic_cast<MemoryUnits&>(units));
  };
  return kind;
}
EngineKind two() { return shard_kind("TwoShards", 2); }
EngineKind three() { return shard_kind("ThreeShards", 3); }

INSTANTIATE_TEST_SUITE_P(Shards, AnyEngine, ::testing::Values(two(), three()));
INSTANTIATE_TEST_SUITE_P(Shards, AnyRestore, ::testing::Values(two(), three()));

}  // namespace
}  // namespace ringtide::testing

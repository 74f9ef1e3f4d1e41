// What a shard has of a session.
#pragma once

#include <cstdint>
#include <optional>

#include "actors/cluster/membership.h"

namespace ringtide::actors::cluster {

struct Holding {
  int64_t units = 0, unit_bytes = 0;  // in its store; copies count
  int64_t ram_bytes = 0;
};

struct ShardHolding {
  Member who;
  std::optional<Holding> holding;  // none: it did not answer
};

}  // namespace ringtide::actors::cluster

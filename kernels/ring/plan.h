// What a shard does in a ring prefill, as data: hop by hop, what visits it, which of the queries
// see which of the keys, and what goes on to the next shard meanwhile.
//
// Tokens `fresh` were appended to a sequence; their queries attend to every token up to their own
// position. Pass-KV: keys and values travel from shard to shard, queries stay. Pass-Q: queries
// travel, keys and values stay; partial results follow the queries one hop behind and end at their
// owner, so the ring's links carry them while the next hop is computed (Yang et al. 2024,
// arXiv:2411.01783, return them by an all-to-all at the end; the bytes are the same).
//
// Nothing goes further than somebody needs it: a shard's keys travel only as far up as some later
// shard of the way sees them, and the last hop sends nothing on.
//
// Plans are functions of the placement: shards that agree on it agree on sizes and order of all
// messages.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ring/placement.h"

namespace ringtide::kernels::ring {

enum class Mode { PassKv, PassQ };

enum class Mask {
  None,    // every query sees every key
  Causal,  // a query sees the keys up to its own position
};

// Queries of consecutive tokens over keys of consecutive tokens. Pairs without any sight are not
// listed.
struct Piece {
  Tokens queries;
  int64_t query_row = 0;  // of the first query, among its owner's fresh tokens
  Tokens keys;
  int64_t key_block = 0;  // that holds the first key, among its owner's blocks
  Mask mask = Mask::None;
};

struct Hop {
  int visitor = 0;    // the shard whose keys (pass-KV) or queries (pass-Q) are here; first: its own
  int64_t here = 0;   // of them: blocks of keys (the visitor's first ones), or queries
  int64_t sends = 0;  // to the next shard during this hop, likewise; 0: no message
  std::vector<Piece> pieces;  // by queries, then keys, ascending
};

struct Plan {
  Mode mode = Mode::PassKv;
  int shard = 0, shards = 1, unit = 0;
  int64_t queries = 0;           // fresh tokens of this shard
  int64_t visiting_queries = 0;  // the most that are here at a hop
  int64_t visiting_blocks = 0;   // the most that arrive at a hop
  std::vector<Hop> hops;         // one for each shard
  // Numbers of the transport that the pass takes, on every shard alike.
  uint64_t steps() const {
    return (mode == Mode::PassKv ? 1 : 2) * static_cast<uint64_t>(shards - 1);
  }
};

// Throws std::invalid_argument if `fresh` is not a range of placed tokens that ends with the last.
Plan make_plan(const Placement& placement, Tokens fresh, Mode mode, int shard);

}  // namespace ringtide::kernels::ring

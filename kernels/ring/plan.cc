#include "kernels/ring/plan.h"

#include <algorithm>
#include <stdexcept>

namespace ringtide::kernels::ring {
namespace {

int64_t total(const std::vector<Tokens>& runs) {
  int64_t n = 0;
  for (const Tokens& run : runs) n += run.size();
  return n;
}

// Those of the queries over the keys, both of one shard each.
std::vector<Piece> pieces(const Placement& placement, Tokens fresh, int query_shard,
                          int key_shard) {
  const auto keys = placement.runs(key_shard, {0, placement.tokens()});
  std::vector<Piece> result;
  int64_t row = 0;
  for (const Tokens& queries : placement.runs(query_shard, fresh)) {
    int64_t block = 0;
    for (Tokens run : keys) {
      const int64_t first_block = block;
      block += (run.size() + placement.unit() - 1) / placement.unit();
      run.end = std::min(run.end, queries.end);
      if (run.size() <= 0) break;
      const Mask mask = run.end - 1 <= queries.begin ? Mask::None : Mask::Causal;
      result.push_back({queries, row, run, first_block, mask});
    }
    row += queries.size();
  }
  return result;
}

// The first blocks of `owner` that are seen by queries of the shards of the ring `from` hops after
// it and later ones.
int64_t blocks_needed(const Placement& placement, Tokens fresh, int owner, int from) {
  int64_t end = 0;  // the last query's position + 1
  for (int hop = from; hop < placement.shards(); ++hop) {
    const auto queries = placement.runs((owner + hop) % placement.shards(), fresh);
    if (!queries.empty()) end = std::max(end, queries.back().end);
  }
  const auto& blocks = placement.blocks_of(owner);
  const int64_t last = (end + placement.unit() - 1) / placement.unit();
  return std::lower_bound(blocks.begin(), blocks.end(), last) - blocks.begin();
}

}  // namespace

Plan make_plan(const Placement& placement, Tokens fresh, Mode mode, int shard) {
  if (fresh.begin < 0 || fresh.begin > fresh.end || fresh.end != placement.tokens())
    throw std::invalid_argument("make_plan: the fresh tokens are the last ones of the sequence");
  const int shards = placement.shards();
  if (shard < 0 || shard >= shards) throw std::invalid_argument("make_plan: no such shard");
  Plan plan;
  plan.mode = mode;
  plan.shard = shard;
  plan.shards = shards;
  plan.unit = placement.unit();
  plan.queries = total(placement.runs(shard, fresh));
  plan.visiting_queries = plan.queries;
  for (int h = 0; h < shards; ++h) {
    Hop hop;
    hop.visitor = (shard - h + shards) % shards;
    const bool last = h == shards - 1;
    if (mode == Mode::PassKv) {
      hop.here = blocks_needed(placement, fresh, hop.visitor, h);
      hop.sends = last ? 0 : blocks_needed(placement, fresh, hop.visitor, h + 1);
      hop.pieces = pieces(placement, fresh, shard, hop.visitor);
      if (h > 0) plan.visiting_blocks = std::max(plan.visiting_blocks, hop.here);
    } else {
      hop.here = total(placement.runs(hop.visitor, fresh));
      hop.sends = last ? 0 : hop.here;
      hop.pieces = pieces(placement, fresh, hop.visitor, shard);
      plan.visiting_queries = std::max(plan.visiting_queries, hop.here);
    }
    plan.hops.push_back(std::move(hop));
  }
  return plan;
}

}  // namespace ringtide::kernels::ring

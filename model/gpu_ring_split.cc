// Passes over many tokens: a shard computes its own rows. The keys and values of the other shards
// pass by while it attends to those that are here; or, where that is faster, its queries visit the
// other shard and come back with their results. Either way a query attends to its own shard's
// blocks first, then to the others' in the order of the ring, so that the bits are the same.
#include <algorithm>

#include "kernels/ring/cost_model.h"
#include "model/gpu_ring_passes.h"

namespace ringtide::model {

using kernels::cuda::KvRef;
using kernels::cuda::TokenPlace;
using kernels::ring::Mode;
using kernels::ring::Tokens;
using Queue = kernels::Gpu::Queue;

constexpr int32_t kPage = GpuRingMemory::kPage;

// What a pass reads, and whose blocks are here at each hop.
struct GpuRingPasses::Split {
  GpuRingContext& context;
  int32_t m;  // own rows
  GpuInputs::Array<int64_t> position;
  struct Hop {
    int64_t blocks;  // that are here, one after the other
    GpuInputs::Array<KvRef> refs;
    GpuInputs::Array<int32_t> count;
  };
  std::vector<Hop> hops;  // first the own blocks, then those of the shards before
  // Of the other shard, where queries pass.
  int32_t visitors = 0;
  GpuInputs::Array<int64_t> visitor_position;
};

namespace {

int32_t rows_of(const std::vector<Tokens>& runs) {
  int64_t rows = 0;
  for (const Tokens& run : runs) rows += run.size();
  return static_cast<int32_t>(rows);
}
// Where each run of kPage rows begins. REQUIRES: all but the last run end with a page.
void put_positions(const std::vector<Tokens>& runs, int64_t* to) {
  for (const Tokens& run : runs)
    for (int64_t p = run.begin; p < run.end; p += kPage) *to++ = p;
}
int64_t pages(int32_t rows) { return (rows + kPage - 1) / kPage; }

}  // namespace

int64_t GpuRingPasses::split_bytes(int64_t rows, int64_t refs, int shards) {
  return rows * (4 + static_cast<int64_t>(sizeof(TokenPlace))) + (rows + kVisitors) / kPage * 8 +
         refs * static_cast<int64_t>(sizeof(KvRef)) + (2 * shards + 6) * GpuInputs::kSlack;
}

bool GpuRingPasses::queries_pass(const GpuRingContext& context, Tokens fresh) const {
  if (shards_ != 2) return false;
  const kernels::ring::Placement& placement = context.placement();
  for (int s = 0; s < shards_; ++s)
    if (rows_of(placement.runs(s, fresh)) > kVisitors) return false;
  if (only_) return *only_ == Mode::PassQ;
  const kernels::ring::PassSeconds seconds =
      kernels::ring::pass_seconds({shape_.heads, shape_.kv_heads, shape_.head_dim, 2}, rates_,
                                  static_cast<double>(rows_of(placement.runs(0, fresh))),
                                  static_cast<double>(placement.tokens_of(0)));
  return seconds.queries < seconds.keys;
}

void GpuRingPasses::split(GpuRingContext& context, int64_t first, std::span<const TokenId> tokens) {
  forget(context);
  const kernels::ring::Placement& placement = context.placement();
  const Tokens fresh{first, first + static_cast<int64_t>(tokens.size())};
  const auto runs = placement.runs(shard_, fresh);
  const int32_t m = rows_of(runs);
  const bool queries_pass = this->queries_pass(context, fresh);
  int64_t refs = 0;
  for (int s = 0; s < shards_; ++s) refs += static_cast<int64_t>(placement.blocks_of(s).size());

  GpuInputs& in = block_inputs_;
  in.begin(split_bytes(m, refs, shards_));
  const auto token_in = in.take<int32_t>(m);
  const auto place_in = in.take<TokenPlace>(m);
  Split s{context, m, in.take<int64_t>(pages(m)), {}, 0, {}};
  put_positions(runs, s.position.host);
  int32_t row = 0;
  for (const auto& run : runs) {
    angles_.set(row, run.begin, run.size());
    for (int64_t p = run.begin; p < run.end; ++p, ++row) {
      token_in.host[row] = tokens[p - first];
      place_in.host[row] = context.place(p);
      place_in.host[row].near_angle = row;
    }
  }
  if (queries_pass) {
    const auto theirs = placement.runs(1 - shard_, fresh);
    s.visitors = rows_of(theirs);
    s.visitor_position = in.take<int64_t>(pages(s.visitors));
    put_positions(theirs, s.visitor_position.host);
  }
  std::vector<KvRef> list;
  for (int h = 0; h < (queries_pass ? 1 : shards_); ++h) {
    list.clear();
    if (h == 0)
      context.refs(fresh.end, list);
    else
      context.visiting_refs((shard_ - h + shards_) % shards_, memory_.receive_row((h - 1) % 2),
                            list);
    const auto n = static_cast<int64_t>(list.size());
    s.hops.push_back({n, in.take<KvRef>(n), in.take<int32_t>(1)});
    std::copy(list.begin(), list.end(), s.hops.back().refs.host);
    *s.hops.back().count.host = static_cast<int32_t>(n);
  }
  in.send();

  float* x = x_.full();
  dense_.embed(token_in.device, m, x);
  for (int l = 0; l < config_.layers; ++l) {
    dense_.before_attention(l, x, m, places(l, place_in.device), GpuDense::Path::Many);
    queries_pass ? pass_queries(s, l) : pass_keys(s, l);
    dense_.after_attention(l, o_.half(), m, x, GpuDense::Path::Many);
  }

  // The shard that has the last token tells all.
  int owner = 0;
  for (int other = 0; other < shards_; ++other)
    if (!placement.runs(other, {fresh.end - 1, fresh.end}).empty()) owner = other;
  const int64_t bytes = int64_t{config_.hidden} * 4;
  const float* mine = owner == shard_ ? x + int64_t{m - 1} * config_.hidden : x;
  ring_.gather(mine, bytes, last_.full(), Queue::Compute);
  gpu_.copy(context.hidden(), last_.full(int64_t{owner} * config_.hidden), bytes);
  finish();
}

void GpuRingPasses::pass_keys(const Split& s, int layer) {
  // A transfer waits for what was attended to before in the buffer that it fills.
  gpu_.record(*kv_ready_);
  gpu_.wait(Queue::Copy, *kv_ready_);
  const auto bytes = [&](int64_t blocks) { return blocks * memory_.block_bytes(); };
  kernels::cuda::PrefillAttention attention = this->attention();
  attention.positions = s.position.device;
  attention.m = s.m;
  const std::byte* here = memory_.together(s.context.blocks(), s.hops[0].blocks, layer);
  for (int h = 0; h < shards_; ++h) {
    if (h + 1 < shards_) {
      if (h >= 2) gpu_.wait(Queue::Copy, *attended_[(h - 1) % 2]);
      std::byte* const next = memory_.at(memory_.receive_row(h % 2));
      ring_.step(here, bytes(s.hops[h].blocks), next, bytes(s.hops[h + 1].blocks), Queue::Copy);
      gpu_.record(*arrived_[h % 2], Queue::Copy);
      here = next;
    }
    if (h > 0) gpu_.wait(Queue::Compute, *arrived_[(h - 1) % 2]);
    if (s.m > 0) {
      attention.lists.near = {s.hops[h].refs.device, s.hops[h].count.device,
                              static_cast<int32_t>(s.hops[h].blocks),
                              h == 0 ? layer * memory_.layer_rows() : 0};
      attention.o_before = h > 0 ? partial_.full() : nullptr;
      attention.lse_before = h > 0 ? lse_.full() : nullptr;
      attention.o32 = h + 1 < shards_ ? partial_.full() : nullptr;
      gpu_.prefill_attention(attention);
    }
    gpu_.record(*attended_[h % 2]);
  }
}

void GpuRingPasses::pass_queries(const Split& s, int layer) {
  const int64_t row = dense_.q_row();
  const auto swap = [&](const auto* mine, auto* theirs, int64_t bytes_of_row, bool back) {
    ring_.step(mine, (back ? s.visitors : s.m) * bytes_of_row, theirs,
               (back ? s.m : s.visitors) * bytes_of_row, Queue::Copy);
  };
  const auto ready = [&](kernels::Gpu::Event& done) {
    gpu_.record(done);
    gpu_.wait(Queue::Copy, done);
  };
  const auto arrived = [&](kernels::Gpu::Event& done) {
    gpu_.record(done, Queue::Copy);
    gpu_.wait(Queue::Compute, done);
  };
  kernels::cuda::PrefillAttention attention = this->attention();
  attention.lists.near = {s.hops[0].refs.device, s.hops[0].count.device,
                          static_cast<int32_t>(s.hops[0].blocks), layer * memory_.layer_rows()};
  ready(*kv_ready_);
  swap(q_.half(), q_there_.half(), row * 2, false);
  attention.positions = s.position.device;
  attention.m = s.m;
  attention.o32 = partial_.full();
  if (s.m > 0) gpu_.prefill_attention(attention);
  ready(*attended_[0]);
  swap(partial_.full(), partial_there_.full(), row * 4, false);
  swap(lse_.full(), lse_there_.full(), int64_t{shape_.heads} * 4, false);
  arrived(*arrived_[0]);
  attention.q_near = attention.q_far = q_there_.half();
  attention.positions = s.visitor_position.device;
  attention.m = s.visitors;
  attention.o32 = nullptr;
  attention.o_before = partial_there_.full();
  attention.lse_before = attention.lse = lse_there_.full();
  attention.o = o_there_.half();
  if (s.visitors > 0) gpu_.prefill_attention(attention);
  ready(*attended_[1]);
  swap(o_there_.half(), o_.half(), row * 2, true);
  arrived(*arrived_[1]);
}

}  // namespace ringtide::model

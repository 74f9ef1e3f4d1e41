// Passes over one token each of several contexts: every shard computes all rows and attends with
// what it holds. A graph, and what it reads.
#include <algorithm>
#include <bit>

#include "model/gpu_ring_passes.h"

namespace ringtide::model {

using kernels::cuda::Band;
using kernels::cuda::kFewRows;
using kernels::cuda::KvRef;
using kernels::cuda::Lists;
using kernels::cuda::TokenPlace;

constexpr int32_t kPage = GpuRingMemory::kPage;

// Counts, positions and lists change from step to step at the same places.
struct GpuRingPasses::Step {
  Bounds bounds;
  GpuInputs::Array<int32_t> token, count;
  GpuInputs::Array<TokenPlace> place;
  GpuInputs::Array<int64_t> position;
  GpuInputs::Array<Band> band;
  GpuInputs::Array<Lists> lists;
  GpuInputs::Array<KvRef> refs;
};

// Of as many rows as there can be.
int64_t GpuRingPasses::step_bytes(int32_t near) {
  const auto row = static_cast<int64_t>(sizeof(TokenPlace) + sizeof(Band) + sizeof(Lists) +
                                        near * sizeof(KvRef) + 16);
  return kFewRows * row + 8 * GpuInputs::kSlack;
}

GpuRingPasses::Step GpuRingPasses::describe(std::span<const Row> rows, const Bounds& b) {
  const int64_t n = b.rows;
  step_inputs_.begin(step_bytes(b.near));
  GpuInputs& in = step_inputs_;
  Step s;
  s.bounds = b;
  s.token = in.take<int32_t>(n);
  s.count = in.take<int32_t>(n);
  s.place = in.take<TokenPlace>(n);
  s.position = in.take<int64_t>(n);
  s.band = in.take<Band>(n);
  s.lists = in.take<Lists>(n);
  s.refs = in.take<KvRef>(n * b.near);
  std::vector<KvRef> refs;
  for (int64_t r = 0; r < n; ++r) {
    GpuRingContext& context = *rows[r].context;
    const int64_t p = context.processed();
    refs.clear();
    context.refs(p + 1, refs);
    s.token.host[r] = rows[r].token;
    s.count.host[r] = static_cast<int32_t>(refs.size());
    s.place.host[r] = context.place(p);
    s.place.host[r].near_angle = context.angles().at(p);
    s.position.host[r] = p;
    s.band.host[r] = {};
    s.lists.host[r] = {};
    s.lists.host[r].near = {s.refs.device + r * b.near, s.count.device + r, b.near, 0};
    std::copy(refs.begin(), refs.end(), s.refs.host + r * b.near);
  }
  return s;
}

void GpuRingPasses::decode(std::span<const Row> rows) {
  // The bound follows from what all shards have, so that all capture at the same step.
  size_t near = kLeastNear;
  for (const Row& row : rows)
    for (int s = 0; s < shards_; ++s)
      near = std::max(near, row.context->placement().blocks_of(s).size());
  const Bounds b{static_cast<int32_t>(rows.size()), static_cast<int32_t>(std::bit_ceil(near))};
  const Step step = describe(rows, b);
  step_inputs_.send();
  // A graph is captured once a shape of step comes again: the first run also loads what it needs.
  const auto [known, fresh] = graphs_.try_emplace(b);
  if (fresh) {
    run(step);
  } else {
    if (!known->second) {
      gpu_.begin_graph();
      run(step);
      known->second = gpu_.end_graph();
    }
    gpu_.launch(*known->second);
  }
  step_rows_.clear();
  for (size_t r = 0; r < rows.size(); ++r) {
    step_rows_.push_back(rows[r].context);
    gpu_.copy(rows[r].context->hidden(), step_x_.full(static_cast<int64_t>(r) * config_.hidden),
              int64_t{config_.hidden} * 4);
  }
}

void GpuRingPasses::run(const Step& s) {
  const Bounds& b = s.bounds;
  kernels::cuda::DecodeAttention attention;
  attention.shape = shape_;
  attention.unit = kPage;
  attention.arena = memory_.arena();
  attention.rows = b.rows;
  attention.q_near = attention.q_far = q_.half();
  attention.position = s.position.device;
  attention.lists = s.lists.device;
  attention.max_near = b.near;
  attention.near_band = attention.far_band = s.band.device;
  attention.scale = config_.attention_scale;
  attention.o32 = partial_.full();
  attention.lse = lse_.full();
  attention.scratch = attention_scratch_.full();
  float* x = step_x_.full();
  dense_.embed(s.token.device, b.rows, x);
  for (int l = 0; l < config_.layers; ++l) {
    dense_.before_attention(l, x, b.rows, places(l, s.place.device), GpuDense::Path::Few);
    attention.row_offset = l * memory_.layer_rows();
    gpu_.decode_attention(attention);
    merge(b.rows);
    dense_.after_attention(l, o_.half(), b.rows, x, GpuDense::Path::Few);
  }
  dense_.logits(x, b.rows, step_logits_.full());
}

}  // namespace ringtide::model

#include "model/gpu_ring_passes.h"

#include <algorithm>
#include <bit>

namespace ringtide::model {

using kernels::cuda::kFewRows;
using kernels::cuda::KvRef;
using kernels::cuda::TokenPlace;

constexpr int32_t kPage = GpuRingMemory::kPage;
static_assert(kPage == kernels::cuda::kPositionRun);

namespace {

kernels::cuda::Heads heads_of(const ModelConfig& c) { return {c.heads, c.kv_heads, c.head_dim}; }
int64_t q_row(const ModelConfig& c) { return int64_t{c.heads} * c.head_dim; }

// Rows of activations: of a pass that is split, or of one that is not.
int64_t rows_of(int32_t pass_rows) { return std::max(pass_rows, GpuRingPasses::kTogether); }

}  // namespace

GpuRingPasses::GpuRingPasses(kernels::Gpu& gpu, const Model& model, const GpuWeights& weights,
                             GpuRingMemory& memory, GpuAngles& angles, GpuRingLink& ring,
                             const GpuRingOptions& options, int32_t pass_rows)
    : gpu_(gpu),
      config_(model.config),
      memory_(memory),
      angles_(angles),
      ring_(ring),
      shard_(ring.shard()),
      shards_(ring.shards()),
      shape_(heads_of(config_)),
      only_(options.only),
      rates_(options.rates),
      dense_(gpu, config_, weights, static_cast<int32_t>(rows_of(pass_rows))),
      x_(gpu, rows_of(pass_rows) * config_.hidden * 4),
      step_x_(gpu, int64_t{kFewRows} * config_.hidden * 4),
      q_(gpu, rows_of(pass_rows) * q_row(config_) * 2),
      o_(gpu, rows_of(pass_rows) * q_row(config_) * 2),
      partial_(gpu, rows_of(pass_rows) * q_row(config_) * 4),
      lse_(gpu, rows_of(pass_rows) * config_.heads * 4),
      q_there_(gpu, visitors(pass_rows, shards_) * q_row(config_) * 2),
      partial_there_(gpu, visitors(pass_rows, shards_) * q_row(config_) * 4),
      lse_there_(gpu, int64_t{visitors(pass_rows, shards_)} * config_.heads * 4),
      o_there_(gpu, visitors(pass_rows, shards_) * q_row(config_) * 2),
      last_(gpu, int64_t{shards_} * config_.hidden * 4),
      work_(gpu, 8),
      step_logits_(gpu, int64_t{kFewRows} * config_.vocabulary * 4),
      logits_(gpu, int64_t{config_.vocabulary} * 4),
      attention_scratch_(gpu),
      block_inputs_(gpu),
      step_inputs_(gpu),
      sampler_(gpu, config_.vocabulary),
      kv_ready_(gpu.make_event()),
      attended_{gpu.make_event(), gpu.make_event()},
      arrived_{gpu.make_event(), gpu.make_event()} {
  gpu.fill(work_.full(), 0, 8);
  // All that a pass takes is there before: to get or free memory may wait for a GPU that waits for
  // this one.
  const auto near = static_cast<int32_t>(
      std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(memory.blocks(), kLeastNear))));
  attention_scratch_.need(4 * gpu.decode_attention_scratch(shape_, kFewRows, near));
  step_inputs_.begin(step_bytes(near));
  block_inputs_.begin(split_bytes(rows_of(pass_rows), shards_ * memory.blocks(), shards_));
}

int32_t GpuRingPasses::rows_of_pass(int32_t pass_tokens, int shards) {
  // Shards differ by a block before a pass and by a block after it; blocks begin and end in pages.
  return (pass_tokens / kPage / shards + 4) * kPage;
}

int32_t GpuRingPasses::visitors(int32_t pass_rows, int shards) {
  return shards == 2 ? std::min(pass_rows, kVisitors) : 0;
}

int64_t GpuRingPasses::bytes(const ModelConfig& c, int32_t pass_rows, int shards) {
  const int64_t attended = q_row(c) * 8 + c.heads * 4;
  return rows_of(pass_rows) * (int64_t{c.hidden} * 4 + attended) +
         visitors(pass_rows, shards) * attended + (kFewRows + shards) * int64_t{c.hidden} * 4 +
         (kFewRows + 1) * int64_t{c.vocabulary} * 4 +
         GpuDense::bytes(c, static_cast<int32_t>(rows_of(pass_rows))) +
         GpuAngles::bytes(c.head_dim, pass_rows) +
         2 * (step_bytes(0) + split_bytes(rows_of(pass_rows), 0, shards));
}

int64_t GpuRingPasses::bytes_of_block(int shards) {
  return 2 * static_cast<int64_t>(sizeof(KvRef)) * (2 * kFewRows + shards);
}

kernels::cuda::Qkv GpuRingPasses::places(int layer, const TokenPlace* place) {
  kernels::cuda::Qkv a;
  a.shape = shape_;
  a.unit = kPage;
  a.arena = memory_.arena();
  a.cos = angles_.cos();
  a.sin = angles_.sin();
  a.place = place;
  a.row_offset = layer * memory_.layer_rows();
  a.q_near = q_.half();
  return a;
}

kernels::cuda::PrefillAttention GpuRingPasses::attention() {
  kernels::cuda::PrefillAttention a;
  a.shape = shape_;
  a.unit = kPage;
  a.arena = memory_.arena();
  a.q_near = a.q_far = q_.half();
  a.q_stride = q_row(config_);
  a.scale = config_.attention_scale;
  a.o = o_.half();
  a.lse = lse_.full();
  a.work = work_.as<int32_t>();
  return a;
}

// -- few tokens ----

// The shards' parts, in partial_ and lse_, become o_.
void GpuRingPasses::merge(int32_t rows) {
  kernels::cuda::RingMerge merge;
  merge.shape = shape_;
  merge.rows = rows;
  merge.o = partial_.full();
  merge.lse = lse_.full();
  merge.merged = o_.half();
  ring_.merge(merge);
}

void GpuRingPasses::together(GpuRingContext& context, int64_t first,
                             std::span<const TokenId> tokens) {
  forget(context);
  const auto m = static_cast<int32_t>(tokens.size());
  std::vector<KvRef> refs;
  context.refs(first + m, refs);
  const auto count = static_cast<int32_t>(refs.size());
  GpuInputs& in = block_inputs_;
  in.begin(m * (4 + static_cast<int64_t>(sizeof(TokenPlace))) +
           count * static_cast<int64_t>(sizeof(KvRef)) + 8 * GpuInputs::kSlack);
  const auto token_in = in.take<int32_t>(m);
  const auto place_in = in.take<TokenPlace>(m);
  const auto ref_in = in.take<KvRef>(count);
  const auto count_in = in.take<int32_t>(1);
  std::copy(tokens.begin(), tokens.end(), token_in.host);
  std::copy(refs.begin(), refs.end(), ref_in.host);
  *count_in.host = count;
  for (int32_t i = 0; i < m; ++i) {
    place_in.host[i] = context.place(first + i);
    place_in.host[i].near_angle = i;
  }
  in.send();
  angles_.set(0, first, m);

  kernels::cuda::PrefillAttention attention = this->attention();
  attention.position = first;
  attention.m = m;
  attention.o = nullptr;
  attention.o32 = partial_.full();
  float* x = x_.full();
  dense_.embed(token_in.device, m, x);
  for (int l = 0; l < config_.layers; ++l) {
    dense_.before_attention(l, x, m, places(l, place_in.device), GpuDense::Path::Many);
    attention.lists.near = {ref_in.device, count_in.device, count, l * memory_.layer_rows()};
    gpu_.prefill_attention(attention);
    merge(m);
    dense_.after_attention(l, o_.half(), m, x, GpuDense::Path::Many);
  }
  gpu_.copy(context.hidden(), x + int64_t{m - 1} * config_.hidden, int64_t{config_.hidden} * 4);
}

// -- results ----

float* GpuRingPasses::logits(GpuRingContext& context) {
  const auto row = std::find(step_rows_.begin(), step_rows_.end(), &context);
  if (row != step_rows_.end())
    return step_logits_.full((row - step_rows_.begin()) * int64_t{config_.vocabulary});
  dense_.logits(context.hidden(), 1, logits_.full());
  return logits_.full();
}

void GpuRingPasses::sample(std::span<GpuRingContext* const> contexts,
                           std::span<const SamplingParams> params, std::span<TokenId> tokens) {
  // Rows that lie side by side in the last step's logits are sampled together.
  for (size_t i = 0, end; i < contexts.size(); i = end) {
    float* logits = this->logits(*contexts[i]);
    std::vector<const History*> pasts = {&contexts[i]->history()};
    for (end = i + 1; end < contexts.size() && logits != logits_.full(); ++end) {
      const auto before = std::find(step_rows_.begin(), step_rows_.end(), contexts[end - 1]);
      if (before + 1 >= step_rows_.end() || *(before + 1) != contexts[end]) break;
      pasts.push_back(&contexts[end]->history());
    }
    sampler_.begin(pasts, params.subspan(i, end - i));
    sampler_.sample(logits, 0, static_cast<int64_t>(end - i));
    sampler_.fetch();
    finish();
    std::copy_n(sampler_.tokens(), end - i, tokens.begin() + static_cast<ptrdiff_t>(i));
    if (sampler_.penalises() && logits != logits_.full()) {
      for (size_t j = i; j < end; ++j) forget(*contexts[j]);
    }
  }
}

void GpuRingPasses::forget(const GpuRingContext& context) {
  for (GpuRingContext*& row : step_rows_)
    if (row == &context) row = nullptr;
}

}  // namespace ringtide::model

#include "model/gpu_blocks.h"

#include <algorithm>

namespace ringtide::model {

using kernels::cuda::KvRef;
using kernels::cuda::LearnRun;
using kernels::cuda::Memory;
using kernels::cuda::Represent;
using kernels::cuda::Slots;
using kernels::cuda::TokenPlace;
using kernels::cuda::Vote;

struct GpuBlocks::Plan {
  int64_t first = 0;  // position
  // Where everything is near, the blocks' queries differ only in what lies ahead of them, and that
  // they do not see: one call for all, over what the last block reads.
  bool together = false;
  bool retrieves = false;
  std::vector<Block> blocks;
  std::vector<KvRef> refs;
  std::vector<LearnRun> runs;
  int64_t seals = 0;  // units that need representatives
  int32_t count() const { return static_cast<int32_t>(blocks.size()); }
};

struct GpuBlocks::Inputs {
  GpuInputs::Array<int32_t> token, count, begin, angle;
  GpuInputs::Array<TokenPlace> place;
  GpuInputs::Array<KvRef> ref;
  GpuInputs::Array<LearnRun> run;
  GpuInputs::Array<int64_t> tick;
  GpuInputs::Array<Memory> memory;
  GpuInputs::Array<Slots> slots;
  std::vector<Represent> represents;
};

GpuBlocks::GpuBlocks(kernels::Gpu& gpu, const ModelConfig& c, GpuDense& dense, GpuHome& home,
                     UnitStore& store, int32_t rows)
    : gpu_(gpu),
      config_(c),
      dense_(dense),
      home_(home),
      shape_{c.heads, c.kv_heads, c.head_dim},
      x_(gpu, int64_t{rows} * c.hidden * 4),
      q_near_(gpu, rows * dense.q_row() * 2),
      q_far_(gpu, rows * dense.q_row() * 2),
      q_raw_(gpu, rows * dense.q_row() * 2),
      o_(gpu, rows * dense.q_row() * 2),
      mean_(gpu),
      inputs_(gpu),
      lookup_(gpu, home, store) {}

int64_t GpuBlocks::bytes(const ModelConfig& c, int32_t rows) {
  return rows * (4 * int64_t{c.hidden} + 8 * int64_t{c.heads} * c.head_dim);
}

GpuBlocks::Plan GpuBlocks::plan(const GpuContext& context, int64_t tokens,
                                std::span<const int32_t> lengths) const {
  Plan p;
  p.first = context.processed();
  p.together = context.true_distance();
  int64_t at = p.first;
  for (const int32_t length : lengths) {
    Block b{.begin = at,
            .end = at + length,
            .row = static_cast<int32_t>(at - p.first),
            .near = p.refs.size(),
            .near_end = 0,
            .far_end = 0,
            .run = p.runs.size(),
            .run_end = 0,
            .sealed = context.sealed_at(at),
            .seals_end = context.sealed_at(at + length)};
    if (!p.together || at + length == p.first + tokens) context.near(b.begin, b.end, p.refs);
    b.near_end = p.refs.size();
    context.far(b.begin, b.end, p.refs);
    b.far_end = p.refs.size();
    if (context.looks_up()) context.learn_runs(b.begin, b.end, b.row, p.runs);
    b.run_end = p.runs.size();
    p.blocks.push_back(b);
    at += length;
  }
  p.retrieves = context.retrieves() && p.blocks.back().sealed > 0;
  if (context.looks_up()) p.seals = p.blocks.back().seals_end - p.blocks[0].sealed;
  return p;
}

GpuBlocks::Inputs GpuBlocks::send(GpuContext& context, const Plan& p,
                                  std::span<const TokenId> tokens) {
  const auto m = static_cast<int32_t>(tokens.size());
  const int32_t blocks = p.count(), whole = context.whole_pages();
  const auto refs = static_cast<int64_t>(p.refs.size()), runs = static_cast<int64_t>(p.runs.size());
  const auto size = [](int64_t n, size_t each) { return n * static_cast<int64_t>(each); };
  inputs_.begin(size(m, 4 + sizeof(TokenPlace)) + size(refs, sizeof(KvRef)) +
                size(runs, sizeof(LearnRun)) + size(blocks, sizeof(Memory) + 24) +
                size(config_.layers, sizeof(Slots)) + p.seals * whole * 8 + 16 * GpuInputs::kSlack);
  Inputs in;
  in.token = inputs_.take<int32_t>(m);
  in.place = inputs_.take<TokenPlace>(m);
  in.ref = inputs_.take<KvRef>(refs);
  in.run = inputs_.take<LearnRun>(runs);
  in.count = inputs_.take<int32_t>(2 * blocks);
  in.begin = inputs_.take<int32_t>(blocks + 1);
  in.angle = inputs_.take<int32_t>(blocks);
  in.tick = inputs_.take<int64_t>(blocks);
  in.memory = inputs_.take<Memory>(blocks);
  in.slots = inputs_.take<Slots>(config_.layers);
  const auto sums = inputs_.take<const float*>(p.seals * whole);
  std::copy(tokens.begin(), tokens.end(), in.token.host);
  std::copy(p.refs.begin(), p.refs.end(), in.ref.host);
  std::copy(p.runs.begin(), p.runs.end(), in.run.host);
  for (int32_t i = 0; i < m; ++i) {
    const auto place = context.place(p.first + i);
    in.place.host[i] = {place.raw_row, place.rotated_row, place.v_row, i,
                        p.first + i > context.query_limit() ? context.angles().limit() : i};
  }
  for (int32_t b = 0; b < blocks; ++b) {
    const Block& block = p.blocks[b];
    in.count.host[2 * b] = static_cast<int32_t>(block.near_end - block.near);
    in.count.host[2 * b + 1] = static_cast<int32_t>(block.far_end - block.near_end);
    in.begin.host[b] = block.row;
    in.angle.host[b] = context.angles().lookup();
    in.tick.host[b] = ++home_.tick;
    if (p.retrieves) in.memory.host[b] = context.memory(block.sealed);
  }
  in.begin.host[blocks] = m;
  for (int64_t s = 0; s < p.seals; ++s) {
    in.represents.push_back(context.represent(p.blocks[0].sealed + s, sums.host + s * whole));
    in.represents.back().query_sums = sums.device + s * whole;
  }
  if (p.retrieves)
    for (int l = 0; l < config_.layers; ++l) in.slots.host[l] = context.slots(l);
  inputs_.send();
  return in;
}

void GpuBlocks::prefill(GpuContext& context, std::span<const TokenId> tokens,
                        std::span<const int32_t> lengths) {
  if (lookup_.owes()) {
    lookup_.fetch();
    gpu_.synchronize();
    lookup_.tell();
  }
  const auto m = static_cast<int32_t>(tokens.size());
  context.begin(m);
  context.picked.clear();
  GpuContext* const careful = context.index().absent() > 0 ? &context : nullptr;
  const Plan p = plan(context, m, lengths);
  Inputs in = send(context, p, tokens);
  home_.angles.set(0, p.first, m);
  if (p.retrieves) {
    lookup_.begin(context.layout(), p.count(), 1, static_cast<int32_t>(p.blocks.back().sealed),
                  context.policy().config().select);
    lookup_.count_anew();
    mean_.need(p.count() * dense_.q_row() * 2);
  }

  kernels::cuda::Qkv split;
  split.shape = shape_;
  split.unit = context.layout().unit;
  split.arena = home_.arena.view();
  split.cos = home_.angles.cos();
  split.sin = home_.angles.sin();
  split.place = in.place.device;
  split.q_near = q_near_.half();
  split.q_far = p.together ? nullptr : q_far_.half();
  split.q_raw = context.retrieves() ? q_raw_.half() : nullptr;
  float* const x = x_.full();
  dense_.embed(in.token.device, m, x);
  for (int l = 0; l < config_.layers; ++l) {
    split.row_offset = l * context.layout().layer_rows();
    dense_.before_attention(l, x, m, split, GpuDense::Path::Many);
    if (p.retrieves)
      gpu_.mean_query(shape_, q_raw_.half(), in.begin.device, in.angle.device, p.count(),
                      home_.angles.cos(), home_.angles.sin(), mean_.half());
    for (int32_t b = p.together ? p.count() - 1 : 0; b < p.count(); ++b) {
      const bool looks_up = p.retrieves && p.blocks[b].sealed > 0;
      if (looks_up) look_up(context, in, b, l, careful);
      attend(context, p, in, b, l, looks_up);
      if (context.looks_up()) learn(context, p, in, b, l);
    }
    dense_.after_attention(l, o_.half(), m, x, GpuDense::Path::Many);
  }
  gpu_.copy(context.hidden(), x + int64_t{m - 1} * config_.hidden, int64_t{config_.hidden} * 4);
  if (p.retrieves)
    for (int32_t b = 0; b < p.count(); ++b)
      if (p.blocks[b].sealed > 0) lookup_.owe(context, b, 0);
  context.finish(tokens, lengths);
}

void GpuBlocks::look_up(GpuContext& context, const Inputs& in, int32_t b, int layer,
                        GpuContext* careful) {
  kernels::cuda::Lookup lookup = lookup_.make(b, layer);
  lookup.q = mean_.half(b * dense_.q_row());
  lookup.memory = in.memory.device + b;
  lookup.slots = in.slots.device + layer;
  lookup.vote = context.policy().config().vote == HeadVote::Sum ? Vote::Sum : Vote::Softmax;
  lookup.tick = in.tick.device + b;
  lookup_.choose(lookup, careful);
  lookup_.assign(lookup);
  lookup_.fetch(lookup, careful);
}

void GpuBlocks::attend(const GpuContext& context, const Plan& p, const Inputs& in, int32_t b,
                       int layer, bool looks_up) {
  const Block& block = p.blocks[b];
  const int32_t row = p.together ? 0 : block.row;
  const int32_t offset = layer * context.layout().layer_rows();
  kernels::cuda::PrefillAttention a;
  a.shape = shape_;
  a.unit = context.layout().unit;
  a.arena = home_.arena.view();
  a.q_stride = dense_.q_row();
  a.near_band = context.near_band();
  a.far_band = context.far_band();
  a.scale = config_.attention_scale;
  a.lists.near = {in.ref.device + block.near, in.count.device + 2 * b, in.count.host[2 * b],
                  offset};
  a.lists.far = {in.ref.device + block.near_end, in.count.device + 2 * b + 1,
                 in.count.host[2 * b + 1], offset};
  if (looks_up) a.lists.units = lookup_.list(0);
  a.q_near = q_near_.half(row * dense_.q_row());
  a.q_far = p.together ? a.q_near : q_far_.half(row * dense_.q_row());
  a.position = p.first + row;
  a.m = static_cast<int32_t>(block.end - p.first) - row;
  a.o = o_.half(row * dense_.q_row());
  gpu_.prefill_attention(a);
}

void GpuBlocks::learn(GpuContext& context, const Plan& p, Inputs& in, int32_t b, int layer) {
  const Block& block = p.blocks[b];
  const int32_t unit = context.layout().unit;
  kernels::cuda::Learn learn;
  learn.shape = shape_;
  learn.unit = unit;
  learn.arena = home_.arena.view();
  learn.q = q_near_.half();
  learn.window = context.policy().config().window;
  learn.scale = config_.attention_scale;
  learn.runs = in.run.device + block.run;
  learn.run_count = static_cast<int32_t>(block.run_end - block.run);
  learn.row_offset = layer * context.layout().layer_rows();
  learn.sum_offset = layer * context.layout().row();
  learn.logit_offset = int64_t{layer} * config_.heads * unit;
  gpu_.learn(learn);
  for (int64_t u = block.sealed; u < block.seals_end; ++u) {
    Represent& r = in.represents[u - p.blocks[0].sealed];
    r.first_layer = layer;
    r.end_layer = layer + 1;
    gpu_.represent(r);
  }
}

}  // namespace ringtide::model

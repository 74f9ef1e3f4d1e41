// Passes over blocks of one context: products over all rows, attention block by block.
#include <algorithm>

#include "model/gpu_passes.h"
#include "model/gpu_passes_inl.h"

namespace ringtide::model {

using kernels::cuda::KvRef;
using kernels::cuda::LearnRun;
using kernels::cuda::Memory;
using kernels::cuda::Slots;
using kernels::cuda::TokenPlace;
using kernels::cuda::Vote;
using kernels::cuda::Write;

namespace {

Vote vote_of(const PolicyConfig& policy) {
  return policy.vote == HeadVote::Sum ? Vote::Sum : Vote::Softmax;
}

}  // namespace

void GpuPasses::prefill(GpuContext& context, std::span<const TokenId> tokens,
                        std::span<const int32_t> lengths) {
  settle();
  prepared_.reset();
  const ModelConfig& c = config_;
  const PolicyConfig& policy = context.policy().config();
  const auto m = static_cast<int32_t>(tokens.size());
  const auto blocks = static_cast<int32_t>(lengths.size());
  const int64_t first = context.processed();
  context.begin(m);
  context.picked.clear();
  for (GpuContext*& row : step_rows_)
    if (row == &context) row = nullptr;
  GpuContext* const careful = context.index().absent() > 0 ? &context : nullptr;
  // Where everything is near, the blocks' queries differ only in what lies ahead of them, and that
  // they do not see: one call for all, over what the last block reads.
  const bool together = context.true_distance();

  // What each block reads, and the units that its end seals.
  struct Block {
    int64_t begin, end;
    int32_t row;  // of its first token
    size_t near, near_end, far_end, run, run_end;
    int64_t sealed, seals_end;
  };
  std::vector<Block> plan;
  std::vector<KvRef> refs;
  std::vector<LearnRun> runs;
  std::vector<TokenPlace> places(m);
  int64_t at = first;
  for (const int32_t length : lengths) {
    Block b{.begin = at,
            .end = at + length,
            .row = static_cast<int32_t>(at - first),
            .near = refs.size(),
            .near_end = 0,
            .far_end = 0,
            .run = runs.size(),
            .run_end = 0,
            .sealed = context.sealed_at(at),
            .seals_end = context.sealed_at(at + length)};
    if (!together || at + length == first + m) context.near(b.begin, b.end, refs);
    b.near_end = refs.size();
    context.far(b.begin, b.end, refs);
    b.far_end = refs.size();
    if (context.looks_up()) context.learn_runs(b.begin, b.end, b.row, runs);
    b.run_end = runs.size();
    plan.push_back(b);
    at += length;
  }
  for (int32_t i = 0; i < m; ++i) {
    const auto place = context.place(first + i);
    const bool held = first + i > context.query_limit();
    places[i] = {place.raw_row, place.rotated_row, place.v_row, i,
                 held ? context.angles().limit() : i};
  }
  const int64_t seals = context.looks_up() ? context.sealed_at(at) - context.sealed_at(first) : 0;
  const int32_t whole = context.whole_pages();
  const bool retrieves = context.retrieves() && plan.back().sealed > 0;

  GpuInputs& in = block_inputs_;
  in.begin(m * (4 + static_cast<int64_t>(sizeof(TokenPlace))) +
           static_cast<int64_t>(refs.size() * sizeof(KvRef) + runs.size() * sizeof(LearnRun)) +
           blocks * (static_cast<int64_t>(sizeof(Memory)) + 24) +
           c.layers * static_cast<int64_t>(sizeof(Slots)) + seals * whole * 8 +
           16 * GpuInputs::kSlack);
  const auto token_in = in.take<int32_t>(m);
  const auto place_in = in.take<TokenPlace>(m);
  const auto ref_in = in.take<KvRef>(static_cast<int64_t>(refs.size()));
  const auto run_in = in.take<LearnRun>(static_cast<int64_t>(runs.size()));
  const auto count_in = in.take<int32_t>(2 * blocks);
  const auto begin_in = in.take<int32_t>(blocks + 1);
  const auto angle_in = in.take<int32_t>(blocks);
  const auto tick_in = in.take<int64_t>(blocks);
  const auto memory_in = in.take<Memory>(blocks);
  const auto slots_in = in.take<Slots>(c.layers);
  const auto sums_in = in.take<const float*>(seals * whole);
  std::copy(tokens.begin(), tokens.end(), token_in.host);
  put(place_in, places);
  put(ref_in, refs);
  put(run_in, runs);
  for (int32_t b = 0; b < blocks; ++b) {
    count_in.host[2 * b] = static_cast<int32_t>(plan[b].near_end - plan[b].near);
    count_in.host[2 * b + 1] = static_cast<int32_t>(plan[b].far_end - plan[b].near_end);
    begin_in.host[b] = plan[b].row;
    angle_in.host[b] = context.angles().lookup();
    tick_in.host[b] = ++tick_;
    if (retrieves) memory_in.host[b] = context.memory(plan[b].sealed);
  }
  begin_in.host[blocks] = m;
  std::vector<kernels::cuda::Represent> represents;
  for (int64_t s = 0; s < seals; ++s) {
    represents.push_back(context.represent(plan[0].sealed + s, sums_in.host + s * whole));
    represents.back().query_sums = sums_in.device + s * whole;
  }
  if (retrieves)
    for (int l = 0; l < c.layers; ++l) slots_in.host[l] = context.slots(l);
  in.send();
  home_.angles.set(0, first, m);
  if (retrieves) {
    const bool stayed = lookup_.begin(context.layout(), blocks, 1,
                                      static_cast<int32_t>(plan.back().sealed), policy.select);
    if (!mean_.need(blocks * q_row(c) * 2) || !stayed) graphs_.clear();
  }

  kernels::cuda::PrefillAttention attention;
  attention.shape = shape_;
  attention.unit = policy.unit;
  attention.arena = home_.arena.view();
  attention.q_stride = q_row(c);
  attention.near_band = context.near_band();
  attention.far_band = context.far_band();
  attention.scale = scale_;
  kernels::cuda::Learn learn;
  learn.shape = shape_;
  learn.unit = policy.unit;
  learn.arena = home_.arena.view();
  learn.q = q_near_.half();
  learn.window = policy.window;
  learn.scale = scale_;

  float* x = x_.full();
  gpu_.embed(token_in.device, weights_.embedding(), m, c.hidden, c.embedding_scale, x);
  for (int l = 0; l < c.layers; ++l) {
    const GpuLayerWeights& w = weights_.layers()[l];
    const int32_t offset = l * context.layout().layer_rows();
    gpu_.rms_norm(x, w.attention_norm, c.norm_eps, m, c.hidden, h_.half());
    product(h_.half(), w.qkv, m, qkv_row(c), c.hidden, qkv_.half(), nullptr, Write::Replace, false);
    kernels::cuda::Qkv split = qkv(context, w, l, m);
    split.place = place_in.device;
    gpu_.split_qkv(split);
    if (retrieves)
      gpu_.mean_query(shape_, q_raw_.half(), begin_in.device, angle_in.device, blocks,
                      home_.angles.cos(), home_.angles.sin(), mean_.half());

    for (int32_t b = 0; b < blocks; ++b) {
      if (together && b + 1 < blocks) continue;
      const Block& block = plan[b];
      const int32_t row = together ? 0 : block.row;
      attention.lists = {};
      attention.lists.near = {ref_in.device + block.near, count_in.device + 2 * b,
                              count_in.host[2 * b], offset};
      attention.lists.far = {ref_in.device + block.near_end, count_in.device + 2 * b + 1,
                             count_in.host[2 * b + 1], offset};
      if (retrieves && block.sealed > 0) {
        kernels::cuda::Lookup lookup = lookup_.make(b, l);
        lookup.q = mean_.half(b * q_row(c));
        lookup.memory = memory_in.device + b;
        lookup.slots = slots_in.device + l;
        lookup.vote = vote_of(policy);
        lookup.tick = tick_in.device + b;
        lookup_.run(lookup, careful);
        attention.lists.units = lookup_.list(0);
      }
      attention.q_near = q_near_.half(row * q_row(c));
      attention.q_far = together ? attention.q_near : q_far_.half(row * q_row(c));
      attention.position = first + row;
      attention.m = static_cast<int32_t>(block.end - first) - row;
      attention.o = attention_.half(row * q_row(c));
      gpu_.prefill_attention(attention);
      if (!context.looks_up()) continue;
      learn.runs = run_in.device + block.run;
      learn.run_count = static_cast<int32_t>(block.run_end - block.run);
      learn.row_offset = offset;
      learn.sum_offset = l * context.layout().row();
      learn.logit_offset = int64_t{l} * c.heads * policy.unit;
      gpu_.learn(learn);
      for (int64_t u = block.sealed; u < block.seals_end; ++u) {
        if (context.represented(u)) {
          if (l == 0) context.index_represented(u);
          continue;
        }
        kernels::cuda::Represent& r = represents[u - plan[0].sealed];
        r.first_layer = l;
        r.end_layer = l + 1;
        gpu_.represent(r);
      }
    }
    feed_forward(w, m, x, false);
  }
  gpu_.copy(context.hidden(), x + int64_t{m - 1} * c.hidden, int64_t{c.hidden} * 4);
  if (retrieves) {
    lookup_.fetch_choices();
    for (int32_t b = 0; b < blocks; ++b)
      if (plan[b].sealed > 0) to_collect_.push_back({&context, b, 0});
  }
  context.finish(tokens, lengths);
}

}  // namespace ringtide::model

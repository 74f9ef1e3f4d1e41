#include "model/gpu_passes.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "model/random.h"

namespace ringtide::model {

using kernels::cuda::Band;
using kernels::cuda::kFewRows;
using kernels::cuda::KvRef;
using kernels::cuda::LearnRun;
using kernels::cuda::Lists;
using kernels::cuda::Memory;
using kernels::cuda::Slots;
using kernels::cuda::TokenPlace;
using kernels::cuda::Vote;
using kernels::cuda::Write;

namespace {

int64_t q_row(const ModelConfig& c) { return int64_t{c.heads} * c.head_dim; }
int64_t qkv_row(const ModelConfig& c) {
  return (int64_t{c.heads} + 2 * c.kv_heads) * c.head_dim;
}

// A bound that a step's lists rarely outgrow: each growth captures its graph anew.
int32_t rounded(size_t n, int32_t least) {
  return static_cast<int32_t>(std::bit_ceil(std::max(n, static_cast<size_t>(least))));
}

Vote vote_of(const PolicyConfig& policy) {
  return policy.vote == HeadVote::Sum ? Vote::Sum : Vote::Softmax;
}

kernels::cuda::Heads heads_of(const ModelConfig& c) { return {c.heads, c.kv_heads, c.head_dim}; }

int64_t product_scratch(kernels::Gpu& gpu, const ModelConfig& c) {
  int64_t floats = 0;
  for (const auto& [n, k] : {std::pair(qkv_row(c), int64_t{c.hidden}),
                             std::pair(int64_t{c.hidden}, q_row(c)),
                             std::pair(2 * int64_t{c.ffn}, int64_t{c.hidden}),
                             std::pair(int64_t{c.hidden}, int64_t{c.ffn}),
                             std::pair(int64_t{c.vocabulary}, int64_t{c.hidden})})
    floats = std::max(floats, gpu.few_rows_scratch(n, k));
  return floats * 4;
}

template <class T>
void put(const GpuInputs::Array<T>& array, const std::vector<T>& values, int64_t at = 0) {
  std::copy(values.begin(), values.end(), array.host + at);
}

}  // namespace

GpuPasses::GpuPasses(kernels::Gpu& gpu, const Model& model, const GpuWeights& weights,
                     GpuHome& home, UnitStore& store, int32_t pass_rows)
    : gpu_(gpu),
      config_(model.config),
      weights_(weights),
      home_(home),
      pass_rows_(pass_rows),
      shape_(heads_of(config_)),
      scale_(config_.attention_scale),
      x_(gpu, int64_t{pass_rows} * config_.hidden * 4),
      step_x_(gpu, int64_t{kFewRows} * config_.hidden * 4),
      h_(gpu, int64_t{pass_rows} * config_.hidden * 2),
      qkv_(gpu, pass_rows * qkv_row(config_) * 2),
      q_near_(gpu, pass_rows * q_row(config_) * 2),
      q_far_(gpu, pass_rows * q_row(config_) * 2),
      q_raw_(gpu, pass_rows * q_row(config_) * 2),
      attention_(gpu, pass_rows * q_row(config_) * 2),
      gate_up_(gpu, int64_t{pass_rows} * config_.ffn * 4),
      gated_(gpu, int64_t{pass_rows} * config_.ffn * 2),
      mean_(gpu, kFewRows * q_row(config_) * 2),
      step_logits_(gpu, int64_t{kFewRows} * config_.vocabulary * 4),
      logits_(gpu, int64_t{config_.vocabulary} * 4),
      product_scratch_(gpu, product_scratch(gpu, config_)),
      attention_scratch_(gpu),
      sample_scratch_(gpu, gpu.sample_scratch(kFewRows, config_.vocabulary) * 4),
      sampled_(gpu, kFewRows * 4),
      block_inputs_(gpu),
      step_inputs_(gpu),
      seal_inputs_(gpu),
      sample_inputs_(gpu),
      lookup_(gpu, home, store),
      sampled_host_(static_cast<int32_t*>(gpu.allocate_host(kFewRows * 4)), {&gpu}) {
  gpu.fill(product_scratch_.full(), 0, product_scratch(gpu, config_));
}

int64_t GpuPasses::bytes(const ModelConfig& c, int32_t pass_rows) {
  const int64_t row = int64_t{c.hidden} * 6 + 2 * qkv_row(c) + 10 * q_row(c) + 6 * int64_t{c.ffn};
  return pass_rows * row + (kFewRows + 1) * int64_t{c.vocabulary} * 4 +
         int64_t{kFewRows} * c.hidden * 4 + GpuAngles::bytes(c.head_dim, pass_rows);
}

void GpuPasses::product(const bf16* x, const bf16* w, int64_t rows, int64_t n, int64_t k, bf16* y,
                        float* y32, Write write, bool few) {
  const kernels::cuda::Product p{.x = x,
                                 .w = w,
                                 .m = static_cast<int32_t>(rows),
                                 .n = n,
                                 .k = k,
                                 .y = y,
                                 .y32 = y32,
                                 .write = write,
                                 .scratch = product_scratch_.full()};
  few ? gpu_.few_rows(p) : gpu_.many_rows(p);
}

kernels::cuda::Qkv GpuPasses::qkv(const GpuContext& any, const GpuLayerWeights& w, int layer,
                                  int64_t rows) {
  kernels::cuda::Qkv a;
  a.shape = shape_;
  a.unit = any.layout().unit;
  a.arena = home_.arena.view();
  a.qkv = qkv_.half();
  a.bias = w.qkv_bias;
  a.q_norm = w.q_norm;
  a.k_norm = w.k_norm;
  a.norm_eps = config_.norm_eps;
  a.cos = home_.angles.cos();
  a.sin = home_.angles.sin();
  a.row_offset = layer * any.layout().layer_rows();
  a.rows = rows;
  a.q_near = q_near_.half();
  a.q_far = any.true_distance() ? nullptr : q_far_.half();
  a.q_raw = any.retrieves() ? q_raw_.half() : nullptr;
  return a;
}

// x += wo * attention; x += down * (activation(gate * norm(x)) . (up * norm(x)))
void GpuPasses::feed_forward(const GpuLayerWeights& w, int64_t rows, float* x, bool few) {
  const ModelConfig& c = config_;
  product(attention_.half(), w.wo, rows, c.hidden, q_row(c), nullptr, x, Write::Add, few);
  gpu_.rms_norm(x, w.ffn_norm, c.norm_eps, rows, c.hidden, h_.half());
  product(h_.half(), w.gate_up, rows, 2 * c.ffn, c.hidden, gate_up_.half(), nullptr,
          Write::Replace, few);
  gpu_.gate_mul(gate_up_.half(), rows, c.ffn,
                c.activation == Activation::GeluTanh ? kernels::cuda::Gate::Gelu
                                                     : kernels::cuda::Gate::Silu,
                gated_.half());
  product(gated_.half(), w.down, rows, c.hidden, c.ffn, nullptr, x, Write::Add, few);
}

// -- blocks ----

void GpuPasses::prefill(GpuContext& context, std::span<const TokenId> tokens,
                        std::span<const int32_t> lengths) {
  settle();
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
    Block b{.begin = at, .end = at + length, .row = static_cast<int32_t>(at - first), .near = refs.size(),
            .near_end = 0, .far_end = 0, .run = runs.size(), .run_end = 0,
            .sealed = context.sealed_at(at), .seals_end = context.sealed_at(at + length)};
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
    represents.push_back(
        context.represent(plan[0].sealed + s, sums_in.host + s * whole));
    represents.back().query_sums = sums_in.device + s * whole;
  }
  if (retrieves)
    for (int l = 0; l < c.layers; ++l) slots_in.host[l] = context.slots(l);
  in.send();
  home_.angles.set(0, first, m);
  if (retrieves) {
    const bool stayed =
        lookup_.begin(context.layout(), blocks, 1, static_cast<int32_t>(plan.back().sealed),
                      policy.select);
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

// -- tokens ----

// What a decode step reads. Counts, positions and lists change from step to step at the same places.
struct GpuPasses::Step {
  Bounds bounds;
  const GpuContext* any;
  GpuInputs::Array<int32_t> token, near_count, far_count, begin, angle;
  GpuInputs::Array<TokenPlace> place;
  GpuInputs::Array<int64_t> position, tick;
  GpuInputs::Array<Band> near_band, far_band;
  GpuInputs::Array<Lists> lists;
  GpuInputs::Array<KvRef> near, far;
  GpuInputs::Array<Memory> memory;
  GpuInputs::Array<Slots> slots;  // (layers, rows)
  GpuInputs::Array<LearnRun> run;
};

GpuPasses::Bounds GpuPasses::bounds(std::span<const Row> rows) const {
  const GpuContext& any = *rows[0].context;
  const PolicyConfig& policy = any.policy().config();
  size_t near = 0, far = 0;
  int64_t sealed = 0;
  std::vector<KvRef> refs;
  for (const Row& row : rows) {
    const int64_t p = row.context->processed();
    refs.clear();
    row.context->near(p, p + 1, refs);
    near = std::max(near, refs.size());
    refs.clear();
    row.context->far(p, p + 1, refs);
    far = std::max(far, refs.size());
    sealed = std::max(sealed, row.context->sealed());
  }
  const bool retrieves = any.retrieves() && sealed > 0;
  return {.rows = static_cast<int32_t>(rows.size()),
          .near = rounded(near, 8),
          .far = far == 0 ? 0 : rounded(far, 4),
          .sealed = retrieves ? rounded(sealed, kernels::cuda::kIndexGroup) : 0,
          .select = retrieves ? policy.select : 0,
          .represents = any.looks_up(),
          .unit = policy.unit,
          .window = policy.window,
          .vote = static_cast<int>(policy.vote),
          .kind = static_cast<int>(policy.kind)};
}

GpuPasses::Step GpuPasses::describe(std::span<const Row> rows, const Bounds& b) {
  const int64_t n = b.rows, layers = config_.layers;
  Step s;
  s.bounds = b;
  s.any = rows[0].context;
  const int64_t row_bytes =
      static_cast<int64_t>(sizeof(TokenPlace) + 2 * sizeof(Band) + sizeof(Lists) + sizeof(Memory) +
                           layers * sizeof(Slots) + sizeof(LearnRun) +
                           (b.near + b.far) * sizeof(KvRef)) +
      64;
  // Room for as many rows as there can be: what a graph reads stays where it is.
  if (!step_inputs_.begin(std::max<int64_t>(n, kFewRows) * row_bytes + 20 * GpuInputs::kSlack))
    graphs_.clear();
  GpuInputs& in = step_inputs_;
  s.token = in.take<int32_t>(n);
  s.place = in.take<TokenPlace>(n);
  s.position = in.take<int64_t>(n);
  s.near_band = in.take<Band>(n);
  s.far_band = in.take<Band>(n);
  s.lists = in.take<Lists>(n);
  s.near_count = in.take<int32_t>(n);
  s.far_count = in.take<int32_t>(n);
  s.near = in.take<KvRef>(n * b.near);
  s.far = in.take<KvRef>(n * b.far);
  s.begin = in.take<int32_t>(n + 1);
  s.angle = in.take<int32_t>(n);
  s.tick = in.take<int64_t>(1);
  s.memory = in.take<Memory>(n);
  s.slots = in.take<Slots>(layers * n);
  s.run = in.take<LearnRun>(n);

  *s.tick.host = ++tick_;
  std::vector<KvRef> refs;
  std::vector<LearnRun> runs;
  for (int64_t r = 0; r < n; ++r) {
    GpuContext& context = *rows[r].context;
    const int64_t p = context.processed();
    const auto place = context.place(p);
    const int32_t angle = context.angles().at(p);
    s.token.host[r] = rows[r].token;
    s.place.host[r] = {place.raw_row, place.rotated_row, place.v_row, angle,
                       p > context.query_limit() ? context.angles().limit() : angle};
    s.position.host[r] = p;
    s.near_band.host[r] = context.near_band();
    s.far_band.host[r] = context.far_band();
    refs.clear();
    context.near(p, p + 1, refs);
    put(s.near, refs, r * b.near);
    s.near_count.host[r] = static_cast<int32_t>(refs.size());
    refs.clear();
    context.far(p, p + 1, refs);
    put(s.far, refs, r * b.far);
    s.far_count.host[r] = static_cast<int32_t>(refs.size());
    Lists& lists = s.lists.host[r];
    lists = {};
    lists.near = {s.near.device + r * b.near, s.near_count.device + r, b.near, 0};
    if (b.far > 0) lists.far = {s.far.device + r * b.far, s.far_count.device + r, b.far, 0};
    if (b.select > 0) lists.units = lookup_.list(static_cast<int32_t>(r));
    s.begin.host[r] = static_cast<int32_t>(r);
    s.angle.host[r] = context.angles().lookup();
    s.memory.host[r] = {};
    if (b.select > 0) {
      if (context.sealed() > 0) s.memory.host[r] = context.memory(context.sealed());
      for (int64_t l = 0; l < layers; ++l)
        s.slots.host[l * n + r] = context.slots(static_cast<int>(l));
    }
    if (b.represents) {
      runs.clear();
      context.learn_runs(p, p + 1, static_cast<int32_t>(r), runs);
      s.run.host[r] = runs[0];
    }
  }
  s.begin.host[n] = static_cast<int32_t>(n);
  return s;
}

void GpuPasses::decode(std::span<const Row> rows) {
  settle();
  keep_hidden(rows);
  for (const Row& row : rows) {
    row.context->begin(1);
    row.context->picked.clear();
  }
  GpuContext* careful = nullptr;
  for (const Row& row : rows)
    if (row.context->index().absent() > 0) careful = row.context;
  if (careful && rows.size() > 1)
    throw std::logic_error("decode: a context with units in the store needs a step of its own");
  const Bounds b = bounds(rows);
  if (b.select > 0 &&
      !lookup_.begin(rows[0].context->layout(), 1, b.rows, b.sealed, b.select))
    graphs_.clear();
  if (!attention_scratch_.need(4 * gpu_.decode_attention_scratch(
                                       shape_, b.rows, b.near + b.far + b.select)))
    graphs_.clear();
  const Step step = describe(rows, b);
  step_inputs_.send();
  // A graph is captured once a shape of step comes again: the first run also loads what it needs.
  const auto [known, fresh] = graphs_.try_emplace(b);
  if (careful || fresh) {
    run(step, careful);
  } else {
    if (!known->second) {
      gpu_.begin_graph();
      run(step, nullptr);
      known->second = gpu_.end_graph();
    }
    gpu_.launch(*known->second);
  }
  step_rows_.clear();
  for (const Row& row : rows) step_rows_.push_back(row.context);
  step_logits_valid_ = true;
  if (b.select > 0)
    for (int32_t r = 0; r < b.rows; ++r) to_collect_.push_back({rows[r].context, 0, r});
  represent_sealed(rows);
  constexpr int32_t kOne = 1;
  for (const Row& row : rows) row.context->finish({&row.token, 1}, {&kOne, 1});
}

void GpuPasses::run(const Step& s, GpuContext* careful) {
  const ModelConfig& c = config_;
  const Bounds& b = s.bounds;
  const GpuContext& any = *s.any;
  float* x = step_x_.full();

  kernels::cuda::DecodeAttention attention;
  attention.shape = shape_;
  attention.unit = b.unit;
  attention.arena = home_.arena.view();
  attention.rows = b.rows;
  attention.q_near = q_near_.half();
  attention.q_far = any.true_distance() ? q_near_.half() : q_far_.half();
  attention.position = s.position.device;
  attention.lists = s.lists.device;
  attention.max_near = b.near;
  attention.max_far = b.far;
  attention.max_units = b.select;
  attention.near_band = s.near_band.device;
  attention.far_band = s.far_band.device;
  attention.scale = scale_;
  attention.o = attention_.half();
  attention.scratch = attention_scratch_.full();
  kernels::cuda::Learn learn;
  learn.shape = shape_;
  learn.unit = b.unit;
  learn.arena = home_.arena.view();
  learn.q = q_near_.half();
  learn.runs = s.run.device;
  learn.run_count = b.rows;
  learn.window = b.window;
  learn.scale = scale_;

  gpu_.embed(s.token.device, weights_.embedding(), b.rows, c.hidden, c.embedding_scale, x);
  for (int l = 0; l < c.layers; ++l) {
    const GpuLayerWeights& w = weights_.layers()[l];
    const int32_t offset = l * any.layout().layer_rows();
    gpu_.rms_norm(x, w.attention_norm, c.norm_eps, b.rows, c.hidden, h_.half());
    product(h_.half(), w.qkv, b.rows, qkv_row(c), c.hidden, qkv_.half(), nullptr, Write::Replace,
            true);
    kernels::cuda::Qkv split = qkv(any, w, l, b.rows);
    split.place = s.place.device;
    gpu_.split_qkv(split);
    if (b.select > 0) {
      gpu_.mean_query(shape_, q_raw_.half(), s.begin.device, s.angle.device, b.rows,
                      home_.angles.cos(), home_.angles.sin(), mean_.half());
      kernels::cuda::Lookup lookup = lookup_.make(0, l);
      lookup.q = mean_.half();
      lookup.memory = s.memory.device;
      lookup.slots = s.slots.device + int64_t{l} * b.rows;
      lookup.vote = static_cast<HeadVote>(b.vote) == HeadVote::Sum ? Vote::Sum : Vote::Softmax;
      lookup.tick = s.tick.device;
      lookup_.run(lookup, careful);
    }
    attention.row_offset = offset;
    gpu_.decode_attention(attention);
    if (b.represents) {
      learn.row_offset = offset;
      learn.sum_offset = l * any.layout().row();
      learn.logit_offset = int64_t{l} * c.heads * b.unit;
      gpu_.learn(learn);
    }
    feed_forward(w, b.rows, x, true);
  }
  gpu_.rms_norm(x, weights_.output_norm(), c.norm_eps, b.rows, c.hidden, h_.half());
  product(h_.half(), weights_.output(), b.rows, c.vocabulary, c.hidden, nullptr,
          step_logits_.full(), Write::Replace, true);
  if (b.select > 0) lookup_.fetch_choices();
}

// Units whose last token leaves the window with this step.
void GpuPasses::represent_sealed(std::span<const Row> rows) {
  std::vector<std::pair<GpuContext*, int64_t>> seals;
  int64_t pointers = 0;
  for (const Row& row : rows) {
    GpuContext& context = *row.context;
    if (!context.looks_up()) continue;
    const int64_t end = context.sealed_at(context.processed() + 1);
    for (int64_t u = context.sealed(); u < end; ++u) {
      if (context.represented(u)) {
        context.index_represented(u);
        continue;
      }
      seals.push_back({&context, u});
      pointers += context.whole_pages();
    }
  }
  if (seals.empty()) return;
  seal_inputs_.begin(pointers * 8 + GpuInputs::kSlack);
  const auto sums = seal_inputs_.take<const float*>(pointers);
  std::vector<kernels::cuda::Represent> work;
  int64_t at = 0;
  for (const auto& [context, unit] : seals) {
    work.push_back(context->represent(unit, sums.host + at));
    work.back().query_sums = sums.device + at;
    at += context->whole_pages();
  }
  seal_inputs_.send();
  for (const auto& r : work) gpu_.represent(r);
}

// The next step overwrites the hidden states of the last one: those that it does not renew at the
// same place are kept with their contexts.
void GpuPasses::keep_hidden(std::span<const Row> next) {
  const int64_t bytes = int64_t{config_.hidden} * 4;
  for (size_t r = 0; r < step_rows_.size(); ++r) {
    GpuContext* context = step_rows_[r];
    const bool renewed = std::any_of(next.begin(), next.end(),
                                     [&](const Row& row) { return row.context == context; });
    if (context && !renewed)
      gpu_.copy(context->hidden(), step_x_.full(static_cast<int64_t>(r) * config_.hidden), bytes);
  }
  step_rows_.clear();
}

// -- results ----

float* GpuPasses::logits(GpuContext& context) {
  const auto row = std::find(step_rows_.begin(), step_rows_.end(), &context);
  const float* hidden = context.hidden();
  if (row != step_rows_.end()) {
    if (step_logits_valid_)
      return step_logits_.full((row - step_rows_.begin()) * int64_t{config_.vocabulary});
    hidden = step_x_.full((row - step_rows_.begin()) * int64_t{config_.hidden});
  }
  gpu_.rms_norm(hidden, weights_.output_norm(), config_.norm_eps, 1, config_.hidden, h_.half());
  product(h_.half(), weights_.output(), 1, config_.vocabulary, config_.hidden, nullptr,
          logits_.full(), Write::Replace, true);
  return logits_.full();
}

void GpuPasses::sample(std::span<GpuContext* const> contexts,
                       std::span<const SamplingParams> params, std::span<TokenId> tokens) {
  using kernels::cuda::SampleRow;
  const auto n = static_cast<int64_t>(contexts.size());
  if (n > kFewRows) {
    sample(contexts.first(kFewRows), params.first(kFewRows), tokens.first(kFewRows));
    return sample(contexts.subspan(kFewRows), params.subspan(kFewRows), tokens.subspan(kFewRows));
  }
  const auto penalises = [](const SamplingParams& p) { return p.repetition_penalty != 1; };
  int64_t recent = 0;
  for (int64_t i = 0; i < n; ++i)
    if (penalises(params[i])) recent += std::max(0, params[i].penalty_window);
  sample_inputs_.begin(n * static_cast<int64_t>(sizeof(SampleRow)) + recent * 4 +
                       2 * GpuInputs::kSlack);
  const auto row_in = sample_inputs_.take<SampleRow>(n);
  const auto recent_in = sample_inputs_.take<int32_t>(recent);
  int64_t at = 0;
  for (int64_t i = 0; i < n; ++i) {
    const SamplingParams& p = params[i];
    const std::vector<TokenId>& past = contexts[i]->history().all_tokens();
    SampleRow& row = row_in.host[i];
    row = {.temperature = p.temperature,
           .top_k = p.top_k,
           .top_p = p.top_p,
           .min_p = p.min_p,
           .repetition_penalty = p.repetition_penalty,
           .uniform = uniform(p.seed, past.size())};
    if (!penalises(p)) continue;
    const size_t count = std::min(past.size(), static_cast<size_t>(std::max(0, p.penalty_window)));
    std::copy(past.end() - static_cast<ptrdiff_t>(count), past.end(), recent_in.host + at);
    row.recent = recent_in.device + at;
    row.recent_count = static_cast<int32_t>(count);
    at += static_cast<int64_t>(count);
  }
  sample_inputs_.send();

  // Rows that lie together in the last step's logits are sampled together.
  bool penalised = false;
  for (int64_t i = 0, end; i < n; i = end) {
    float* logits = this->logits(*contexts[i]);
    end = i + 1;
    while (end < n && logits != logits_.full() &&
           this->logits(*contexts[end]) == logits + (end - i) * config_.vocabulary)
      ++end;
    gpu_.sample(logits, static_cast<int32_t>(end - i), config_.vocabulary, row_in.device + i,
                sampled_.as<int32_t>(i * 4), sample_scratch_.full());
    for (int64_t j = i; j < end; ++j) penalised |= penalises(params[j]);
  }
  gpu_.copy(sampled_host_.get(), sampled_.as<int32_t>(), n * 4);
  gpu_.synchronize();
  std::copy_n(sampled_host_.get(), n, tokens.begin());
  // A penalty changes the logits it reads.
  if (penalised) step_logits_valid_ = false;
}

void GpuPasses::settle() {
  if (to_collect_.empty()) return;
  gpu_.synchronize();
  for (const Choice& choice : to_collect_)
    if (choice.context) lookup_.collect(*choice.context, choice.set, choice.row);
  to_collect_.clear();
}

void GpuPasses::forget(const GpuContext& context) {
  for (GpuContext*& row : step_rows_)
    if (row == &context) row = nullptr;
  for (Choice& choice : to_collect_)
    if (choice.context == &context) choice.context = nullptr;
}

}  // namespace ringtide::model

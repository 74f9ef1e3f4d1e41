// Passes over one token each of several contexts: a graph, and what it reads.
#include <algorithm>
#include <bit>

#include "model/gpu_passes.h"
#include "model/gpu_passes_inl.h"

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

// Of a step's first graph.
constexpr int kFirstLayers = 2;

// A bound that a step's lists rarely outgrow: each growth captures its graph anew.
int32_t rounded(size_t n, int32_t least) {
  return static_cast<int32_t>(std::bit_ceil(std::max(n, static_cast<size_t>(least))));
}

}  // namespace

// What a decode step reads. Counts, positions and lists change from step to step at the same
// places.
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

// A step of these contexts, each after so many tokens, whose inputs are on the device, its tokens
// those that were sampled last.
struct GpuPasses::Prepared {
  Step step;
  std::vector<std::pair<const GpuContext*, int64_t>> rows;
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

// While the host waits for tokens, it describes the step that will most likely follow: the same
// contexts, one token on. Only what costs nothing if it does not follow: no page, no unit, no
// growth.
void GpuPasses::prepare(std::span<GpuContext* const> contexts) {
  prepared_.reset();
  if (!std::equal(contexts.begin(), contexts.end(), step_rows_.begin(), step_rows_.end())) return;
  std::vector<Row> rows;
  auto next = std::make_shared<Prepared>();
  for (GpuContext* context : contexts) {
    const int64_t at = context->processed();
    if (at % context->layout().unit == 0 || context->sealed_at(at + 1) > context->sealed() ||
        context->index().absent() > 0)
      return;
    rows.push_back({context, 0});
    next->rows.emplace_back(context, at);
  }
  const Bounds b = bounds(rows);
  const auto known = graphs_.find(b);
  if (known == graphs_.end() || !known->second.first) return;
  next->step = describe(rows, b);
  step_inputs_.send();
  gpu_.copy(next->step.token.device, sampled_.as<int32_t>(), b.rows * 4);
  prepared_ = std::move(next);
}

bool GpuPasses::prepared_for(std::span<const Row> rows, const Bounds& b) const {
  return prepared_ && prepared_->step.bounds == b &&
         std::equal(rows.begin(), rows.end(), prepared_->rows.begin(), prepared_->rows.end(),
                    [](const Row& row, const auto& then) {
                      return row.context == then.first && row.context->processed() == then.second &&
                             row.context->index().absent() == 0;
                    });
}

void GpuPasses::decode(std::span<const Row> rows) {
  for (const Row& row : rows) row.context->begin(1);
  const Bounds b = bounds(rows);
  if (prepared_for(rows, b)) {
    run_prepared(rows);
  } else {
    settle();
    keep_hidden(rows);
    run_described(rows, b);
  }
  step_rows_.clear();
  for (const Row& row : rows) {
    row.context->picked.clear();
    step_rows_.push_back(row.context);
  }
  step_logits_valid_ = true;
  if (b.select > 0)
    for (int32_t r = 0; r < b.rows; ++r) to_collect_.push_back({rows[r].context, 0, r});
  represent_sealed(rows);
  constexpr int32_t kOne = 1;
  for (const Row& row : rows) row.context->finish({&row.token, 1}, {&kOne, 1});
}

// What the last step chose is told to its contexts while this one runs.
void GpuPasses::run_prepared(std::span<const Row> rows) {
  const auto next = std::move(prepared_);
  const auto same = [](const Row& row, TokenId sampled) { return row.token == sampled; };
  if (!std::equal(rows.begin(), rows.end(), sampled_host_.get(), same)) {
    for (size_t r = 0; r < rows.size(); ++r) next->step.token.host[r] = rows[r].token;
    step_inputs_.send(next->step.token, next->step.bounds.rows);
  }
  if (!to_collect_.empty()) lookup_.keep_choices();
  launch(graphs_.at(next->step.bounds));
  collect();
}

void GpuPasses::run_described(std::span<const Row> rows, const Bounds& b) {
  GpuContext* careful = nullptr;
  for (const Row& row : rows)
    if (row.context->index().absent() > 0) careful = row.context;
  if (careful && rows.size() > 1)
    throw std::logic_error("decode: a context with units in the store needs a step of its own");
  prepared_.reset();
  if (b.select > 0 && !lookup_.begin(rows[0].context->layout(), 1, b.rows, b.sealed, b.select))
    graphs_.clear();
  if (!attention_scratch_.need(
          4 * gpu_.decode_attention_scratch(shape_, b.rows, b.near + b.far + b.select)))
    graphs_.clear();
  const Step step = describe(rows, b);
  step_inputs_.send();
  // A graph is captured once a shape of step comes again: the first run also loads what it needs.
  const auto [known, fresh] = graphs_.try_emplace(b);
  if (careful || fresh) return run(step, careful, 0, config_.layers);
  StepGraphs& graphs = known->second;
  if (!graphs.first) {
    const int cut = std::min(kFirstLayers, config_.layers);
    graphs.first = captured(step, 0, cut);
    if (cut < config_.layers) graphs.rest = captured(step, cut, config_.layers);
  }
  launch(graphs);
}

// In two parts: while the device works on the first, the host launches the second, which takes it a
// while.
void GpuPasses::launch(StepGraphs& graphs) {
  gpu_.launch(*graphs.first);
  if (graphs.rest) gpu_.launch(*graphs.rest);
}

std::unique_ptr<kernels::Gpu::Graph> GpuPasses::captured(const Step& step, int first, int end) {
  gpu_.begin_graph();
  run(step, nullptr, first, end);
  return gpu_.end_graph();
}

// Layers [first, end), with what comes before the first layer and after the last.
void GpuPasses::run(const Step& s, GpuContext* careful, int first, int end) {
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

  if (first == 0)
    gpu_.embed(s.token.device, weights_.embedding(), b.rows, c.hidden, c.embedding_scale, x);
  for (int l = first; l < end; ++l) {
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
  if (end < c.layers) return;
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

}  // namespace ringtide::model

#include "model/gpu_steps.h"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "model/gpu_guess.h"

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

namespace {

// A bound that a step's lists rarely outgrow: each growth captures its graph anew.
int32_t rounded(size_t n, int32_t least) {
  return static_cast<int32_t>(std::bit_ceil(std::max(n, static_cast<size_t>(least))));
}

template <class T>
void put(const GpuInputs::Array<T>& array, const std::vector<T>& values, int64_t at) {
  std::copy(values.begin(), values.end(), array.host + at);
}

}  // namespace

// What a step reads. Counts, positions and lists change from step to step at the same places.
struct GpuSteps::Step {
  Bounds bounds;
  const GpuContext* any;
  GpuInputs::Array<int32_t> token, near_count, far_count, angle;
  GpuInputs::Array<TokenPlace> place;
  GpuInputs::Array<int64_t> position, ticks;  // ticks: of the lookups, of guesses
  GpuInputs::Array<Band> near_band, far_band;
  GpuInputs::Array<Lists> lists;
  GpuInputs::Array<KvRef> near, far;
  GpuInputs::Array<Memory> memory;
  GpuInputs::Array<Slots> slots;  // (layers, rows)
  GpuInputs::Array<LearnRun> run;

  Vote vote() const {
    return static_cast<HeadVote>(bounds.vote) == HeadVote::Sum ? Vote::Sum : Vote::Softmax;
  }
};

// A step of these contexts, each after so many tokens, whose inputs are on the device, its tokens
// those that were sampled last.
struct GpuSteps::Ahead {
  Step step;
  std::vector<std::pair<const GpuContext*, int64_t>> rows;
  const int32_t* tokens;  // on the host, by now
  bool started = false;

  bool has(const GpuContext& context) const {
    return std::any_of(rows.begin(), rows.end(),
                       [&](const auto& row) { return row.first == &context; });
  }
};

GpuSteps::GpuSteps(kernels::Gpu& gpu, const ModelConfig& c, const GpuWeights& weights,
                   GpuDense& dense, GpuHome& home, UnitStore& store)
    : gpu_(gpu),
      config_(c),
      dense_(dense),
      home_(home),
      shape_{c.heads, c.kv_heads, c.head_dim},
      x_(gpu, int64_t{kFewRows} * c.hidden * 4),
      last_x_(gpu, int64_t{kFewRows} * c.hidden * 4),
      q_near_(gpu, c.layers * layer_q() * 2),
      q_far_(gpu, layer_q() * 2),
      q_lookup_(gpu, layer_q() * 2),
      o_(gpu, layer_q() * 2),
      logits_(gpu, int64_t{kFewRows} * c.vocabulary * 4),
      attention_scratch_(gpu),
      inputs_(gpu),
      seal_inputs_(gpu),
      lookup_(gpu, home, store),
      guess_(std::make_unique<GpuGuess>(gpu, c, weights, home, store)) {}

GpuSteps::~GpuSteps() = default;

int64_t GpuSteps::bytes(const ModelConfig& c) {
  const int64_t q = int64_t{c.heads} * c.head_dim;
  return int64_t{kFewRows} *
         (8 * int64_t{c.hidden} + 4 * int64_t{c.vocabulary} + 2 * (c.layers + 3) * q);
}

GpuSteps::Bounds GpuSteps::bounds(std::span<const Row> rows) const {
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
          // Lookups of more rows keep the link to the host busy themselves; one that finds no more
          // units than it wants chooses all of them.
          .guesses = retrieves && rows.size() == 1 && sealed > policy.select,
          .represents = any.looks_up(),
          .unit = policy.unit,
          .window = policy.window,
          .vote = static_cast<int>(policy.vote),
          .kind = static_cast<int>(policy.kind)};
}

// Returns whether everything that graphs read stays where it was.
bool GpuSteps::make_room(std::span<const Row> rows, const Bounds& b) {
  const GpuLayout& layout = rows[0].context->layout();
  bool stayed = attention_scratch_.need(
      4 * gpu_.decode_attention_scratch(shape_, b.rows, b.near + b.far + b.select));
  if (b.select > 0) stayed &= lookup_.begin(layout, 1, b.rows, b.sealed, b.select);
  if (b.guesses) stayed &= guess_->begin(layout, b.sealed, b.select);
  const int64_t row_bytes =
      static_cast<int64_t>(sizeof(TokenPlace) + 2 * sizeof(Band) + sizeof(Lists) + sizeof(Memory) +
                           config_.layers * sizeof(Slots) + sizeof(LearnRun) +
                           (b.near + b.far) * sizeof(KvRef)) +
      64;
  // For as many rows as there can be: what a graph reads stays where it is.
  stayed &= inputs_.begin(std::max<int64_t>(b.rows, kFewRows) * row_bytes + 20 * GpuInputs::kSlack);
  if (!stayed) graphs_.clear();
  return stayed;
}

GpuSteps::Step GpuSteps::describe(std::span<const Row> rows, const Bounds& b) {
  const int64_t n = b.rows, layers = config_.layers;
  Step s;
  s.bounds = b;
  s.any = rows[0].context;
  GpuInputs& in = inputs_;
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
  s.angle = in.take<int32_t>(n);
  s.ticks = in.take<int64_t>(2);
  s.memory = in.take<Memory>(n);
  s.slots = in.take<Slots>(layers * n);
  s.run = in.take<LearnRun>(n);

  // Slots of wrong guesses are taken before those that the last step used.
  s.ticks.host[0] = home_.tick += 2;
  s.ticks.host[1] = home_.tick - 3;
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
  return s;
}

// -- what is expected ----

// Nothing is changed here but what costs nothing if the step does not follow, or what its contexts
// would do anyway.
void GpuSteps::expect(std::span<GpuContext* const> contexts, const GpuSampler& sampler) {
  drop_expected();
  if (contexts.empty() || !std::equal(contexts.begin(), contexts.end(), rows_.begin(), rows_.end()))
    return;
  std::vector<Row> rows;
  auto next = std::make_unique<Ahead>();
  for (GpuContext* context : contexts) {
    if (context->index().absent() > 0) return;
    rows.push_back({context, 0});
    next->rows.emplace_back(context, context->processed());
  }
  try {
    for (const Row& row : rows) row.context->begin(1);
  } catch (const OutOfBudget&) {
    return;  // it is said to whoever asks for the step
  }
  const Bounds b = bounds(rows);
  if (!make_room(rows, b)) return;
  const auto known = graphs_.find(b);
  if (known == graphs_.end() || !known->second) return;
  next->step = describe(rows, b);
  next->tokens = sampler.tokens();
  inputs_.send();
  gpu_.copy(next->step.token.device, sampler.on_device(), b.rows * 4);
  if (trusted_) {
    gpu_.copy(last_x_.full(), x_.full(), int64_t{b.rows} * config_.hidden * 4);
    gpu_.launch(*known->second);
    next->started = true;
  }
  ahead_ = std::move(next);
}

bool GpuSteps::follows(std::span<const Row> rows, const Bounds& b) const {
  return ahead_ && ahead_->step.bounds == b &&
         std::equal(rows.begin(), rows.end(), ahead_->rows.begin(), ahead_->rows.end(),
                    [](const Row& row, const auto& then) {
                      return row.context == then.first && row.context->processed() == then.second &&
                             row.context->index().absent() == 0;
                    });
}

// If it was started, the hidden states that it has overwritten go to their contexts.
void GpuSteps::drop_expected() {
  if (!ahead_) return;
  trusted_ = false;
  if (ahead_->started) {
    for (size_t r = 0; r < rows_.size(); ++r) {
      if (rows_[r])
        gpu_.copy(rows_[r]->hidden(), last_x_.full(static_cast<int64_t>(r) * config_.hidden),
                  int64_t{config_.hidden} * 4);
    }
    rows_.clear();
  }
  ahead_.reset();
}

void GpuSteps::leave(GpuContext& context) {
  if (ahead_ && ahead_->has(context)) drop_expected();
  for (GpuContext*& row : rows_)
    if (row == &context) row = nullptr;
}

void GpuSteps::forget(const GpuContext& context) noexcept {
  for (GpuContext*& row : rows_)
    if (row == &context) row = nullptr;
  if (ahead_)
    for (auto& row : ahead_->rows)
      if (row.first == &context) row.first = nullptr;
  lookup_.forget(context);
}

// -- a step ----

void GpuSteps::decode(std::span<const Row> rows) {
  for (const Row& row : rows) row.context->begin(1);
  const Bounds b = bounds(rows);
  if (follows(rows, b)) {
    run_expected(rows);
  } else {
    drop_expected();
    if (lookup_.owes()) {
      lookup_.fetch();
      gpu_.synchronize();
      lookup_.tell();
    }
    keep_hidden(rows);
    run_described(rows, b);
  }
  rows_.clear();
  for (const Row& row : rows) {
    row.context->picked.clear();
    rows_.push_back(row.context);
  }
  logits_valid_ = true;
  if (b.select > 0)
    for (int32_t r = 0; r < b.rows; ++r) lookup_.owe(*rows[r].context, 0, r);
  if (b.represents) {
    learn(*step_);
    represent_sealed(rows);
  }
  constexpr int32_t kOne = 1;
  for (const Row& row : rows) row.context->finish({&row.token, 1}, {&kOne, 1});
}

// A step is run again where other tokens came than it was started with.
void GpuSteps::run_expected(std::span<const Row> rows) {
  const auto next = std::move(ahead_);
  const auto same = [](const Row& row, TokenId sampled) { return row.token == sampled; };
  trusted_ = std::equal(rows.begin(), rows.end(), next->tokens, same);
  step_ = std::make_unique<Step>(next->step);
  if (!trusted_) {
    for (size_t r = 0; r < rows.size(); ++r) step_->token.host[r] = rows[r].token;
    inputs_.send(step_->token, step_->bounds.rows);
  }
  if (!trusted_ || !next->started) gpu_.launch(*graphs_.at(step_->bounds));
}

void GpuSteps::run_described(std::span<const Row> rows, const Bounds& b) {
  GpuContext* careful = nullptr;
  for (const Row& row : rows)
    if (row.context->index().absent() > 0) careful = row.context;
  if (careful && rows.size() > 1)
    throw std::logic_error("decode: a context with units in the store needs a step of its own");
  make_room(rows, b);
  step_ = std::make_unique<Step>(describe(rows, b));
  inputs_.send();
  // A graph is captured once a shape of step comes again: the first run also loads what it needs.
  const auto [known, fresh] = graphs_.try_emplace(b);
  if (careful || fresh) return run(*step_, careful);
  if (!known->second) {
    gpu_.begin_graph();
    run(*step_, nullptr);
    known->second = gpu_.end_graph();
  }
  gpu_.launch(*known->second);
}

void GpuSteps::run(const Step& s, GpuContext* careful) {
  const ModelConfig& c = config_;
  const Bounds& b = s.bounds;
  const GpuContext& any = *s.any;
  const bool guesses = b.guesses && !careful;
  float* x = x_.full();

  kernels::cuda::Qkv split;
  split.shape = shape_;
  split.unit = b.unit;
  split.arena = home_.arena.view();
  split.cos = home_.angles.cos();
  split.sin = home_.angles.sin();
  split.place = s.place.device;
  split.q_far = any.true_distance() ? nullptr : q_far_.half();
  split.q_lookup = any.retrieves() ? q_lookup_.half() : nullptr;
  split.lookup_angle = s.angle.device;
  kernels::cuda::DecodeAttention attention;
  attention.shape = shape_;
  attention.unit = b.unit;
  attention.arena = home_.arena.view();
  attention.rows = b.rows;
  attention.position = s.position.device;
  attention.lists = s.lists.device;
  attention.max_near = b.near;
  attention.max_far = b.far;
  attention.max_units = b.select;
  attention.near_band = s.near_band.device;
  attention.far_band = s.far_band.device;
  attention.scale = c.attention_scale;
  attention.o = o_.half();
  attention.scratch = attention_scratch_.full();
  const GpuGuess::Inputs guess{.place = s.place.device,
                               .angle = s.angle.device,
                               .memory = s.memory.device,
                               .slots = s.slots.device,
                               .tick = s.ticks.device + 1,
                               .vote = s.vote()};

  if (b.select > 0) lookup_.count_anew();
  dense_.embed(s.token.device, b.rows, x);
  for (int l = 0; l < c.layers; ++l) {
    const bool guessed = guesses && l > 0, guesses_next = guesses && l + 1 < c.layers;
    if (guessed) guess_->await_slots();
    if (guesses_next) guess_->prepare(l + 1, x);
    split.row_offset = attention.row_offset = l * any.layout().layer_rows();
    split.q_near = q_near_.half(l * layer_q());
    dense_.before_attention(l, x, b.rows, split, GpuDense::Path::Few);
    if (b.select > 0) {
      kernels::cuda::Lookup lookup = lookup_.make(0, l);
      lookup.q = q_lookup_.half();
      lookup.memory = s.memory.device;
      lookup.slots = s.slots.device + int64_t{l} * b.rows;
      lookup.vote = s.vote();
      lookup.tick = s.ticks.device;
      lookup_.choose(lookup, careful);
      if (guesses_next) guess_->choose(l + 1, guess);
      lookup_.assign(lookup);
      if (guessed) guess_->await_copies();
      lookup_.fetch(lookup, careful);
      if (guesses_next) guess_->bring();
    }
    attention.q_near = q_near_.half(l * layer_q());
    attention.q_far = any.true_distance() ? attention.q_near : q_far_.half();
    gpu_.decode_attention(attention);
    dense_.after_attention(l, o_.half(), b.rows, x, GpuDense::Path::Few);
  }
  dense_.logits(x, b.rows, logits_.full());
}

void GpuSteps::learn(const Step& s) {
  kernels::cuda::Learn learn;
  learn.shape = shape_;
  learn.unit = s.bounds.unit;
  learn.arena = home_.arena.view();
  learn.q = q_near_.half();
  learn.runs = s.run.device;
  learn.run_count = s.bounds.rows;
  learn.layers = config_.layers;
  learn.layer_rows = s.any->layout().layer_rows();
  learn.layer_q = layer_q();
  learn.window = s.bounds.window;
  learn.scale = config_.attention_scale;
  learn.max_queries = 1;
  gpu_.learn(learn);
}

// Units whose last token leaves the window with this step.
void GpuSteps::represent_sealed(std::span<const Row> rows) {
  std::vector<std::pair<GpuContext*, int64_t>> seals;
  int64_t pointers = 0;
  for (const Row& row : rows) {
    GpuContext& context = *row.context;
    const int64_t end = context.sealed_at(context.processed() + 1);
    for (int64_t u = context.sealed(); u < end; ++u) {
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

// -- results ----

float* GpuSteps::logits(const GpuContext& context) {
  if (ahead_ && ahead_->started) drop_expected();
  const auto row = std::find(rows_.begin(), rows_.end(), &context);
  if (row == rows_.end() || !logits_valid_) return nullptr;
  return logits_.full((row - rows_.begin()) * int64_t{config_.vocabulary});
}

const float* GpuSteps::hidden(const GpuContext& context) {
  if (ahead_ && ahead_->started) drop_expected();
  const auto row = std::find(rows_.begin(), rows_.end(), &context);
  if (row == rows_.end()) return nullptr;
  return x_.full((row - rows_.begin()) * int64_t{config_.hidden});
}

// The next step overwrites the hidden states of the last one: those that it does not renew at the
// same place are kept with their contexts.
void GpuSteps::keep_hidden(std::span<const Row> next) {
  const int64_t bytes = int64_t{config_.hidden} * 4;
  for (size_t r = 0; r < rows_.size(); ++r) {
    GpuContext* context = rows_[r];
    const bool renewed = std::any_of(next.begin(), next.end(),
                                     [&](const Row& row) { return row.context == context; });
    if (context && !renewed)
      gpu_.copy(context->hidden(), x_.full(static_cast<int64_t>(r) * config_.hidden), bytes);
  }
  rows_.clear();
}

}  // namespace ringtide::model

#include "model/context_attention.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>
#include <string>

#include "kernels/elementwise.h"

namespace ringtide::model {
namespace {

// Units attended to in one partial result. A constant, so that the order of merging, and with it
// every bit, does not depend on how much memory there is.
constexpr int64_t kBatch = 64;

kernels::KvBlock block_of(const Context& context, const void* k, int64_t unit) {
  const PageLayout& layout = context.layout();
  kernels::KvBlock b;
  b.k = k;
  b.v = static_cast<const std::byte*>(k) + layout.half_bytes();
  b.type = layout.type;
  b.capacity = b.end = layout.unit;
  b.position = unit * layout.unit;
  return b;
}

void rotate_by(kernels::KvBlock& block, const Page& page, bool sliding) {
  block.cos = page.cos(sliding);
  block.sin = page.sin(sliding);
}

}  // namespace

void ContextAttention::run(Context& context, int layer, float* q, float* o) {
  const kernels::HeadShape& shape = context.layout().shape;
  const int64_t m = context.block_tokens(), p = context.processed();
  const int64_t row = context.layout().row(), half = shape.head_dim / 2;
  const int64_t window = context.policy().config().window;
  const Placement place = context.policy().position();
  if (context.config().slides(layer)) return slide(context, layer, q, o);

  select(context, layer, q, units_);
  const bool far = place.true_distance ? !units_.empty() || context.sealed() > 0 : p + m > window;
  const float* far_q = q;
  if (far && !place.true_distance) {
    far_q_.resize(m * row);
    kernels::rope(q, m, shape.heads, shape.head_dim, context.far().cos.data(),
                  context.far().sin.data(), half, far_q_.data(), threads_);
    far_q = far_q_.data();
  }
  kernels::rope(q, m, shape.heads, shape.head_dim, context.near().cos.data(),
                context.near().sin.data(), half, q, threads_);
  if (context.policy().represents()) learn(context, layer, q);

  lse_.resize(m * shape.heads);
  near(context, layer, blocks_);
  const kernels::Band near_band =
      place.true_distance ? kernels::Band{} : kernels::Band{0, window - 1};
  kernels::attend(shape, q, p, m, blocks_, near_band, context.config().attention_scale, o,
                  lse_.data(), threads_);
  if (!far) return;

  far_pages(context, layer, blocks_);
  merge_far(context, layer, far_q, place.true_distance ? kernels::Band{} : kernels::Band{window},
            o);
}

void ContextAttention::slide(Context& context, int layer, float* q, float* o) {
  const kernels::HeadShape& shape = context.layout().shape;
  const int64_t m = context.block_tokens(), p = context.processed();
  const int64_t unit = context.layout().unit;
  const kernels::Band band{0, context.config().sliding_window - 1};
  const Context::Rotation& rotation = context.sliding();
  kernels::rope(q, m, shape.heads, shape.head_dim, rotation.cos.data(), rotation.sin.data(),
                shape.head_dim / 2, q, threads_);

  blocks_.clear();
  for (int64_t u = std::max(context.sealed(), context.sliding_begin()); u * unit < p + m; ++u) {
    Page& page = *context.page(u);
    kernels::KvBlock block = block_of(context, page.k(layer), u);
    block.end = static_cast<int32_t>(std::min(unit, p + m - u * unit));
    rotate_by(block, page, true);
    blocks_.push_back(block);
  }
  lse_.resize(m * shape.heads);
  kernels::attend(shape, q, p, m, blocks_, band, context.config().attention_scale, o, lse_.data(),
                  threads_);

  units_.clear();
  for (int64_t u = context.sliding_begin(); u < context.sealed(); ++u) units_.push_back(u);
  if (units_.empty()) return;
  blocks_.clear();
  merge_far(context, layer, q, band, o);
}

// Merges into (o, lse_) what q sees of blocks_ and of the units in units_.
void ContextAttention::merge_far(Context& context, int layer, const float* q, kernels::Band band,
                                 float* o) {
  const kernels::HeadShape& shape = context.layout().shape;
  const int64_t m = context.block_tokens(), p = context.processed();
  o2_.resize(m * context.layout().row());
  lse2_.resize(m * shape.heads);
  for (size_t done = 0;;) {
    const size_t n = std::min<size_t>(kBatch, units_.size() - done);
    units(context, layer, std::span(units_).subspan(done, n), blocks_);
    done += n;
    if (!blocks_.empty()) {
      kernels::attend(shape, q, p, m, blocks_, band, context.config().attention_scale, o2_.data(),
                      lse2_.data(), threads_);
      kernels::merge(o, lse_.data(), o2_.data(), lse2_.data(), m * shape.heads, shape.head_dim,
                     threads_);
    }
    if (done == units_.size()) break;
    blocks_.clear();
  }
}

// The mean query of the block, at the distance of a lookup: rotation is linear, so the mean is
// taken first and rotated once.
void ContextAttention::select(Context& context, int layer, const float* q,
                              std::vector<int64_t>& units) {
  units.clear();
  if (context.sealed() == 0) return;
  const kernels::HeadShape& shape = context.layout().shape;
  const int64_t m = context.block_tokens(), row = context.layout().row();
  mean_.assign(row, 0.0f);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < row; ++j) mean_[j] += q[i * row + j];
  for (float& x : mean_) x /= static_cast<float>(m);
  kernels::rope(mean_.data(), 1, shape.heads, shape.head_dim, context.lookup().cos.data(),
                context.lookup().sin.data(), 0, mean_.data(), threads_);
  const std::function fetch = [&](std::span<const int64_t> groups,
                                  std::vector<const std::byte*>& rows) {
    groups_.fetch(context, layer, groups, rows);
  };
  context.policy().select({context.index(), layer, mean_.data(), context.sealed(),
                           context.config().attention_scale, fetch, threads_, scratch_},
                          units);
  if (!context.policy().represents()) return;
  context.picked.insert(context.picked.end(), units.begin(), units.end());
  context.counters.units_selected += static_cast<int64_t>(units.size());
}

void ContextAttention::learn(Context& context, int layer, const float* q) {
  const PageLayout& layout = context.layout();
  const int64_t row = layout.row(), unit = layout.unit, window = context.policy().config().window;
  const float scale = context.config().attention_scale;
  const int64_t first = context.processed(), end = first + context.block_tokens();
  for (int64_t p = first; p < end;) {
    const int64_t number = p / unit, stop = std::min(end, (number + 1) * unit);
    const float* rows = q + (p - first) * row;
    Page& page = *context.page(number);
    float* sum = page.query_sum(layer);
    for (int64_t i = 0; i < stop - p; ++i)
      for (int64_t j = 0; j < row; ++j) sum[j] += rows[i * row + j];
    // The two pages that only part of these queries' windows cover: their own, and the one that is
    // leaving.
    for (const int64_t partly : {number, number - window / unit}) {
      Page* keys = partly < context.sealed() ? nullptr : context.page(partly);
      if (!keys || keys->represented) continue;
      kernels::KvBlock block = block_of(context, keys->k(layer), partly);
      if (partly == number) block.end = static_cast<int32_t>(stop - number * unit);
      rotate_by(block, *keys, false);
      kernels::column_logits(layout.shape, rows, p, stop - p, block, {0, window - 1}, scale,
                             keys->logit_sums(layer), threads_);
    }
    p = stop;
  }
}

void ContextAttention::near(Context& context, int layer,
                            std::vector<kernels::KvBlock>& blocks) const {
  const int64_t unit = context.layout().unit, end = context.processed() + context.block_tokens();
  int64_t first = context.sealed();
  if (!context.policy().position().true_distance)
    first = std::max(first, (context.processed() - context.policy().config().window + 1) / unit);
  blocks.clear();
  for (int64_t u = first; u * unit < end; ++u) {
    Page& page = *context.page(u);
    kernels::KvBlock block = block_of(context, page.k(layer), u);
    block.end = static_cast<int32_t>(std::min(unit, end - u * unit));
    rotate_by(block, page, false);
    blocks.push_back(block);
  }
}

void ContextAttention::far_pages(Context& context, int layer,
                                 std::vector<kernels::KvBlock>& blocks) const {
  const PolicyConfig& config = context.policy().config();
  const Placement place = context.policy().position();
  const Always always = context.policy().always();
  const int64_t unit = config.unit;
  const int32_t sinks = always.sinks ? config.sinks : 0;
  const int64_t end = context.processed() + context.block_tokens();
  blocks.clear();
  auto add = [&](int64_t u, int32_t from, int32_t to) {
    Page& page = *context.page(u);
    kernels::KvBlock block = block_of(context, page.k(layer), u);
    block.begin = from;
    block.end = to;
    if (place.rotate_keys) rotate_by(block, page, false);
    if (from < to) blocks.push_back(block);
  };
  // True distance: pages not sealed are all near, and sinks are far only once sealed.
  if (place.true_distance) {
    if (context.sealed() > 0) add(0, 0, sinks);
    return;
  }
  add(0, 0, static_cast<int32_t>(std::min<int64_t>(sinks, end)));
  if (!always.overflow) return;
  for (int64_t u = context.sealed(); u * unit + config.window < end; ++u)
    add(u, u == 0 ? sinks : 0, static_cast<int32_t>(std::min(unit, end - u * unit)));
}

void ContextAttention::units(Context& context, int layer, std::span<const int64_t> units,
                             std::vector<kernels::KvBlock>& blocks) {
  if (units.empty()) return;
  const bool sliding = context.config().slides(layer);
  std::vector<int64_t> lost;
  std::set<int64_t> recovered;
  for (bool first = true;; first = false) {
    wants_.clear();
    for (int64_t u : units)
      wants_.push_back({context.history().keys()[u], static_cast<uint32_t>(layer)});
    cache_.fetch(wants_, context.layout().chunk_bytes());
    lost.clear();
    for (size_t i = 0; i < units.size(); ++i) {
      if (!wants_[i].data) lost.push_back(units[i]);
      if (first && !sliding)
        ++(wants_[i].from_store ? context.counters.reads_store : context.counters.reads_ram);
    }
    if (lost.empty()) break;
    // Passes that recover a unit use the cache: others, which it held, may turn out to be lost
    // then.
    if (std::ranges::all_of(lost, [&](int64_t u) { return recovered.contains(u); }))
      throw std::runtime_error("unit " + std::to_string(lost.front()) +
                               " was recomputed but the store does not give it back");
    recovered.insert(lost.begin(), lost.end());
    recover_(context, lost);
  }
  const Placement place = context.policy().position();
  const bool shown = context.policy().always().sinks && !sliding;
  const bool rotated = sliding || place.rotate_keys;
  UnitRotations& rotations = sliding ? sliding_rotations_ : rotations_;
  if (rotated) rotations.prepare(units, context.layout().unit, context.inv_freq(sliding));
  for (size_t i = 0; i < units.size(); ++i) {
    kernels::KvBlock block = block_of(context, wants_[i].data, units[i]);
    block.begin = shown && units[i] == 0 ? context.policy().config().sinks : 0;
    if (rotated) {
      block.cos = rotations.cos(i);
      block.sin = rotations.sin(i);
    }
    blocks.push_back(block);
  }
}

}  // namespace ringtide::model

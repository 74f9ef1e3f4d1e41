#include "model/context_attention.h"

#include <algorithm>
#include <cmath>
#include <iterator>
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

void grow(std::vector<float>& v, int64_t n) {
  if (v.size() < static_cast<size_t>(n)) v.resize(n);
}

void rotate_by(kernels::KvBlock& block, const Page& page, bool sliding) {
  block.cos = page.cos(sliding);
  block.sin = page.sin(sliding);
}

}  // namespace

void ContextAttention::run(std::span<const Segment> segments, int layer, RowRange own, float* q,
                           float* o) {
  const PageLayout& layout = segments.front().context->layout();
  const int64_t row = layout.row();
  const size_t n = segments.size();
  parts_.resize(n);
  int64_t rows = 0;
  for (size_t i = 0; i < n; ++i) {
    parts_[i].context = segments[i].context;
    parts_[i].row = rows;
    parts_[i].recovered.clear();
    rows += static_cast<int64_t>(segments[i].tokens.size());
  }
  grow(far_q_, rows * row);
  grow(lse_, rows * layout.shape.heads);
  grow(means_, static_cast<int64_t>(n) * row);
  groups_.forget();

  for (size_t i = 0; i < n; ++i) turn(parts_[i], layer, q, means_.data() + i * row);
  for (bool first = true;; first = false) {
    for (size_t i = 0; i < n; ++i) attend(parts_[i], layer, q, means_.data() + i * row, o, first);
    if (complete(layer, own, rows, o)) break;
    for (Part& part : parts_) recover(part, layer);
  }
  for (Part& part : parts_) {
    Context& context = *part.context;
    if (!context.policy().represents() || context.config().slides(layer)) continue;
    context.picked.insert(context.picked.end(), part.units.begin(), part.units.end());
    context.counters.units_selected += static_cast<int64_t>(part.units.size());
  }
}

// Rotates the part's queries, once towards what is near and once towards what is far, takes the
// mean that a lookup asks with, and lets the index learn of them. The mean is the block's at the
// distance of a lookup: rotation is linear, so it is taken first and rotated once.
void ContextAttention::turn(Part& part, int layer, float* q, float* mean) {
  Context& context = *part.context;
  const kernels::HeadShape& shape = context.layout().shape;
  const int64_t m = context.block_tokens(), row = context.layout().row(), half = shape.head_dim / 2;
  q += part.row * row;
  const auto rotate = [&](const Context::Rotation& by, float* into) {
    kernels::rope(q, m, shape.heads, shape.head_dim, by.cos.data(), by.sin.data(), half, into,
                  threads_);
  };
  if (context.config().slides(layer)) return rotate(context.sliding(), q);

  if (context.sealed() > 0) {
    std::fill_n(mean, row, 0.0f);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < row; ++j) mean[j] += q[i * row + j];
    for (int64_t j = 0; j < row; ++j) mean[j] /= static_cast<float>(m);
    kernels::rope(mean, 1, shape.heads, shape.head_dim, context.lookup().cos.data(),
                  context.lookup().sin.data(), 0, mean, threads_);
  }
  const MemoryPolicy& policy = context.policy();
  if (!policy.position().true_distance && context.processed() + m > policy.config().window)
    rotate(context.far(), far_q_.data() + part.row * row);
  rotate(context.near(), q);
  if (policy.represents()) learn(context, layer, q);
}

void ContextAttention::attend(Part& part, int layer, const float* q, const float* mean, float* o,
                              bool first) {
  Context& context = *part.context;
  const int64_t m = context.block_tokens(), p = context.processed();
  const int64_t row = context.layout().row(), window = context.policy().config().window;
  const Placement place = context.policy().position();
  part.units.clear();
  part.missing.clear();
  part.missing_groups.clear();
  if (context.config().slides(layer)) return slide(part, layer, q, o, first);

  select(part, layer, mean);
  if (!part.missing_groups.empty()) return;
  const bool far =
      place.true_distance ? !part.units.empty() || context.sealed() > 0 : p + m > window;
  near(context, layer, blocks_);
  const kernels::Band near_band =
      place.true_distance ? kernels::Band{} : kernels::Band{0, window - 1};
  const int64_t at = part.row * row;
  kernels::attend(context.layout().shape, q + at, p, m, blocks_, near_band,
                  context.config().attention_scale, o + at,
                  lse_.data() + part.row * context.layout().shape.heads, threads_);
  if (!far) return;

  far_pages(context, layer, blocks_);
  merge_far(part, layer, place.true_distance ? q : far_q_.data(),
            place.true_distance ? kernels::Band{} : kernels::Band{window}, o, first);
}

void ContextAttention::slide(Part& part, int layer, const float* q, float* o, bool first) {
  Context& context = *part.context;
  const kernels::HeadShape& shape = context.layout().shape;
  const int64_t m = context.block_tokens(), p = context.processed();
  const int64_t unit = context.layout().unit, at = part.row * context.layout().row();
  const kernels::Band band{0, context.config().sliding_window - 1};

  blocks_.clear();
  for (int64_t u = std::max(context.sealed(), context.sliding_begin()); u * unit < p + m; ++u) {
    if (!context.has_kv(u)) continue;
    Page& page = *context.page(u);
    kernels::KvBlock block = block_of(context, page.k(layer), u);
    block.end = static_cast<int32_t>(std::min(unit, p + m - u * unit));
    rotate_by(block, page, true);
    blocks_.push_back(block);
  }
  kernels::attend(shape, q + at, p, m, blocks_, band, context.config().attention_scale, o + at,
                  lse_.data() + part.row * shape.heads, threads_);

  for (int64_t u = context.sliding_begin(); u < context.sealed(); ++u) part.units.push_back(u);
  if (part.units.empty()) return;
  blocks_.clear();
  merge_far(part, layer, q, band, o, first);
}

// Merges into the part's (o, lse_) what its queries see of blocks_ and of its units.
void ContextAttention::merge_far(Part& part, int layer, const float* q, kernels::Band band,
                                 float* o, bool first) {
  Context& context = *part.context;
  const kernels::HeadShape& shape = context.layout().shape;
  const int64_t m = context.block_tokens(), p = context.processed();
  const int64_t at = part.row * context.layout().row();
  here_.clear();
  std::ranges::copy_if(part.units, std::back_inserter(here_),
                       [&](int64_t u) { return context.has_kv(u); });
  grow(o2_, m * context.layout().row());
  grow(lse2_, m * shape.heads);
  for (size_t done = 0;;) {
    const size_t n = std::min<size_t>(kBatch, here_.size() - done);
    units(part, layer, std::span(here_).subspan(done, n), first, blocks_);
    done += n;
    if (!blocks_.empty()) {
      kernels::attend(shape, q + at, p, m, blocks_, band, context.config().attention_scale,
                      o2_.data(), lse2_.data(), threads_);
      kernels::merge(o + at, lse_.data() + part.row * shape.heads, o2_.data(), lse2_.data(),
                     m * shape.heads, shape.head_dim, threads_);
    }
    if (done == here_.size()) break;
    blocks_.clear();
  }
}

void ContextAttention::select(Part& part, int layer, const float* mean) {
  Context& context = *part.context;
  if (context.sealed() == 0) return;
  const std::function fetch = [&](std::span<const int64_t> groups,
                                  std::vector<const std::byte*>& rows) {
    groups_.fetch(context, layer, groups, rows, part.missing_groups);
  };
  context.policy().select({context.index(), layer, mean, context.sealed(),
                           context.config().attention_scale, fetch, threads_, scratch_},
                          part.units);
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
      if (!keys || !keys->has_kv() || keys->represented) continue;
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
    if (!context.has_kv(u)) continue;
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
    if (!context.has_kv(u)) return;
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

void ContextAttention::units(Part& part, int layer, std::span<const int64_t> units, bool first,
                             std::vector<kernels::KvBlock>& blocks) {
  if (units.empty()) return;
  Context& context = *part.context;
  const bool sliding = context.config().slides(layer);
  wants_.clear();
  for (int64_t u : units)
    wants_.push_back({context.history().keys()[u], static_cast<uint32_t>(layer)});
  cache_.fetch(wants_, context.layout().chunk_bytes());
  const Placement place = context.policy().position();
  const bool shown = context.policy().always().sinks && !sliding;
  const bool rotated = sliding || place.rotate_keys;
  UnitRotations& rotations = sliding ? sliding_rotations_ : rotations_;
  if (rotated) rotations.prepare(units, context.layout().unit, context.inv_freq(sliding));
  for (size_t i = 0; i < units.size(); ++i) {
    if (first && !sliding)
      ++(wants_[i].from_store ? context.counters.reads_store : context.counters.reads_ram);
    if (!wants_[i].data) {
      part.missing.push_back(units[i]);
      continue;
    }
    kernels::KvBlock block = block_of(context, wants_[i].data, units[i]);
    block.begin = shown && units[i] == 0 ? context.policy().config().sinks : 0;
    if (rotated) {
      block.cos = rotations.cos(i);
      block.sin = rotations.sin(i);
    }
    blocks.push_back(block);
  }
}

bool ContextAttention::complete(int layer, RowRange own, int64_t rows, float* o) {
  ShardRing::Note note;
  for (const Part& part : parts_)
    note.missing += static_cast<uint32_t>(part.missing.size() + part.missing_groups.size());
  if (!ring_) return note.missing == 0;

  const auto choose = [&](int64_t number) {  // FNV-1a, by numbers
    note.choice = (note.choice ^ static_cast<uint32_t>(number)) * 16777619u;
  };
  choose(layer);
  for (const Part& part : parts_) {
    choose(part.context->processed());
    for (const int64_t u : part.units) choose(u);
  }
  const kernels::HeadShape& shape = parts_.front().context->layout().shape;
  if (own.size() == rows) {
    if (!ring_->merge_everywhere(note, shape, rows, o, lse_.data(), threads_)) return true;
  } else if (parts_.front().context->sealed() == 0 || !ring_->exchange(note)) {
    ring_->merge_to_owners(shape, rows, o, lse_.data(), threads_);
    return true;
  }

  std::vector<int64_t> mine;  // part, whether it is a group, number
  for (size_t i = 0; i < parts_.size(); ++i) {
    for (const int64_t u : parts_[i].missing) mine.insert(mine.end(), {int64_t(i), 0, u});
    for (const int64_t g : parts_[i].missing_groups) mine.insert(mine.end(), {int64_t(i), 1, g});
    parts_[i].missing.clear();
    parts_[i].missing_groups.clear();
  }
  const std::vector<int64_t> all = ring_->gather_numbers(mine);
  for (size_t i = 0; i < all.size(); i += 3) {
    Part& part = parts_[all[i]];
    (all[i + 1] ? part.missing_groups : part.missing).push_back(all[i + 2]);
  }
  return false;
}

// Passes that recover a unit use the cache: others, which it held, may turn out to be lost then.
void ContextAttention::recover(Part& part, int layer) {
  Context& context = *part.context;
  for (std::vector<int64_t>* list : {&part.missing, &part.missing_groups}) {
    std::ranges::sort(*list);
    list->erase(std::unique(list->begin(), list->end()), list->end());
  }
  for (const int64_t group : part.missing_groups) groups_.remake(context, layer, group);
  if (part.missing.empty()) return;
  if (std::ranges::all_of(part.missing, [&](int64_t u) { return part.recovered.contains(u); }))
    throw std::runtime_error("unit " + std::to_string(part.missing.front()) +
                             " was recomputed but the store does not give it back");
  part.recovered.insert(part.missing.begin(), part.missing.end());
  recover_(context, part.missing);
}

}  // namespace ringtide::model

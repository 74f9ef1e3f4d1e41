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

}  // namespace

// Past keys are worth moving while they are few beside the block: then its queries and partial
// results stay where they are. What a lookup or the index needs of the queries, all shards need.
bool ContextAttention::keys_travel(const Segment& block, int layer) const {
  const Context& context = *block.context;
  const auto tokens = static_cast<int64_t>(block.tokens.size());
  if (!ring_ || context.policy().represents() || !ring_->splits(tokens)) return false;
  const PageLayout& layout = context.layout();
  const int64_t unit = layout.unit, end = block.position + tokens;
  int64_t first = 0;
  if (context.config().slides(layer))
    first = context.sliding_begin(block.position);
  else if (!context.policy().position().true_distance)
    first = first_near(context, block.position);
  const int64_t keys = ((end + unit - 1) / unit - first) * layout.chunk_bytes();
  const int64_t queries =
      tokens * (2 * layout.row() + layout.shape.heads) * static_cast<int64_t>(sizeof(float));
  return keys < queries;
}

void ContextAttention::run(std::span<const Segment> segments, int layer, RowRange own,
                           bool keys_travel, float* q, float* o) {
  const PageLayout& layout = segments.front().context->layout();
  const int64_t row = layout.row();
  const size_t n = segments.size();
  parts_.resize(n);
  int64_t rows = 0;
  for (size_t i = 0; i < n; ++i) {
    parts_[i].context = segments[i].context;
    parts_[i].position = segments[i].position;
    parts_[i].tokens = static_cast<int64_t>(segments[i].tokens.size());
    parts_[i].row = rows;
    parts_[i].begin = keys_travel ? own.begin : 0;
    parts_[i].count = keys_travel ? own.size() : parts_[i].tokens;
    parts_[i].recovered.clear();
    rows += parts_[i].tokens;
  }
  grow(far_q_, rows * row);
  grow(lse_, rows * layout.shape.heads);
  grow(means_, static_cast<int64_t>(n) * row);
  groups_.forget();
  visiting_.clear();
  keys_travel_ = keys_travel;

  for (size_t i = 0; i < n; ++i) turn(parts_[i], layer, q, means_.data() + i * row);
  for (bool first = true;; first = false) {
    for (size_t i = 0; i < n; ++i) attend(parts_[i], layer, q, means_.data() + i * row, o, first);
    if (complete(layer, own, rows, o)) break;
    for (Part& part : parts_) recover(part, layer);
  }
  for (Part& part : parts_) {
    Context& context = *part.context;
    if (!context.policy().represents() || context.config().slides(layer)) continue;
    if (part.position + part.tokens == context.begun())
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
  const int64_t m = part.tokens, row = context.layout().row(), half = shape.head_dim / 2;
  const int64_t from = (part.row + part.begin) * row;
  const int64_t turned = (part.position - context.processed() + part.begin) * half;
  const auto rotate = [&](const Context::Rotation& by, float* into) {
    kernels::rope(q + from, part.count, shape.heads, shape.head_dim, by.cos.data() + turned,
                  by.sin.data() + turned, half, into + from, threads_);
  };
  if (context.config().slides(layer)) return rotate(context.sliding(), q);

  const float* const block = q + part.row * row;
  if (context.sealed() > 0 && !keys_travel_) {
    std::fill_n(mean, row, 0.0f);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < row; ++j) mean[j] += block[i * row + j];
    for (int64_t j = 0; j < row; ++j) mean[j] /= static_cast<float>(m);
    kernels::rope(mean, 1, shape.heads, shape.head_dim, context.lookup().cos.data(),
                  context.lookup().sin.data(), 0, mean, threads_);
  }
  const MemoryPolicy& policy = context.policy();
  if (!policy.position().true_distance && part.position + m > policy.config().window)
    rotate(context.far(), far_q_.data());
  rotate(context.near(), q);
  if (policy.represents()) learn(part, layer, block);
}

void ContextAttention::attend(Part& part, int layer, const float* q, const float* mean, float* o,
                              bool first) {
  Context& context = *part.context;
  const int64_t m = part.tokens, p = part.position;
  const int64_t window = context.policy().config().window;
  const Placement place = context.policy().position();
  part.units.clear();
  part.missing.clear();
  part.missing_groups.clear();
  if (context.config().slides(layer)) return slide(part, layer, q, o, first);

  select(part, layer, mean);
  if (!part.missing_groups.empty()) return;
  const bool far =
      place.true_distance ? !part.units.empty() || context.sealed() > 0 : p + m > window;
  const int64_t first_page = place.true_distance ? context.sealed() : first_near(context, p);
  if (keys_travel_) collect_pages(part, layer, first_page, far && !place.true_distance);
  near(part, layer, first_page, blocks_);
  const kernels::Band near_band =
      place.true_distance ? kernels::Band{} : kernels::Band{0, window - 1};
  attend_to(part, q, blocks_, near_band, o, lse_.data());
  if (!far) return;

  far_pages(part, layer, blocks_);
  merge_far(part, layer, place.true_distance ? q : far_q_.data(),
            place.true_distance ? kernels::Band{} : kernels::Band{window}, o, first);
}

void ContextAttention::slide(Part& part, int layer, const float* q, float* o, bool first) {
  Context& context = *part.context;
  const int64_t unit = context.layout().unit, end = part.position + part.tokens;
  const int64_t begin = context.sliding_begin(part.position);
  const int64_t first_page = std::max(context.sealed(), begin);
  const kernels::Band band{0, context.config().sliding_window - 1};

  if (keys_travel_) collect_pages(part, layer, first_page, false);
  blocks_.clear();
  for (int64_t u = first_page; u * unit < end; ++u) {
    const std::byte* const keys = keys_of(context, layer, u);
    if (!keys) continue;
    kernels::KvBlock block = block_of(context, keys, u);
    block.end = static_cast<int32_t>(std::min(unit, end - u * unit));
    turn_keys(context, u, true, block);
    blocks_.push_back(block);
  }
  attend_to(part, q, blocks_, band, o, lse_.data());

  for (int64_t u = begin; u < context.sealed(); ++u) part.units.push_back(u);
  if (part.units.empty()) return;
  blocks_.clear();
  merge_far(part, layer, q, band, o, first);
}

// (o, lse) of the part's rows over the blocks.
void ContextAttention::attend_to(const Part& part, const float* q,
                                 std::span<const kernels::KvBlock> blocks, kernels::Band band,
                                 float* o, float* lse) {
  const Context& context = *part.context;
  const int64_t first = part.row + part.begin, at = first * context.layout().row();
  kernels::attend(context.layout().shape, q + at, part.position + part.begin, part.count, blocks,
                  band, context.config().attention_scale, o + at,
                  lse + first * context.layout().shape.heads, threads_);
}

// Merges into the part's (o, lse_) what its queries see of blocks_ and of its units.
void ContextAttention::merge_far(Part& part, int layer, const float* q, kernels::Band band,
                                 float* o, bool first) {
  Context& context = *part.context;
  const kernels::HeadShape& shape = context.layout().shape;
  const int64_t row = context.layout().row();
  const int64_t begin = part.row + part.begin, end = begin + part.count;
  here_.clear();
  std::ranges::copy_if(part.units, std::back_inserter(here_),
                       [&](int64_t u) { return keys_travel_ || context.has_kv(u); });
  grow(o2_, end * row);
  grow(lse2_, end * shape.heads);
  for (size_t done = 0;;) {
    const size_t n = std::min<size_t>(kBatch, here_.size() - done);
    units(part, layer, std::span(here_).subspan(done, n), first, blocks_);
    done += n;
    if (!blocks_.empty()) {
      attend_to(part, q, blocks_, band, o2_.data(), lse2_.data());
      kernels::merge(o + begin * row, lse_.data() + begin * shape.heads, o2_.data() + begin * row,
                     lse2_.data() + begin * shape.heads, part.count * shape.heads, shape.head_dim,
                     threads_);
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

void ContextAttention::learn(const Part& part, int layer, const float* q) {
  Context& context = *part.context;
  const PageLayout& layout = context.layout();
  const int64_t row = layout.row(), unit = layout.unit, window = context.policy().config().window;
  const float scale = context.config().attention_scale;
  const int64_t first = part.position, end = first + part.tokens;
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
      // What a page's own queries add is stored with every copy of it; the rest its owner adds.
      if (!keys || !(partly == number ? keys->has_kv() : context.has_kv(partly))) continue;
      kernels::KvBlock block = block_of(context, keys->k(layer), partly);
      if (partly == number) block.end = static_cast<int32_t>(stop - number * unit);
      turn_keys(context, partly, false, block);
      kernels::column_logits(layout.shape, rows, p, stop - p, block, {0, window - 1}, scale,
                             keys->logit_sums(layer), threads_);
    }
    p = stop;
  }
}

int64_t ContextAttention::first_near(const Context& context, int64_t position) {
  const int64_t window = context.policy().config().window, unit = context.layout().unit;
  return std::max(context.sealed(), (position - window + 1) / unit);
}

const std::byte* ContextAttention::keys_of(Context& context, int layer, int64_t page) const {
  if (context.has_kv(page)) return context.page(page)->k(layer);
  const auto visits = visiting_.find(page);
  return visits == visiting_.end() ? nullptr : visits->second;
}

void ContextAttention::collect_pages(const Part& part, int layer, int64_t first, bool sinks) {
  Context& context = *part.context;
  const int64_t end = part.position + part.tokens;
  std::vector<int64_t> pages;
  if (sinks && first > 0) pages.push_back(0);
  for (int64_t u = first; u * context.layout().unit < end; ++u) pages.push_back(u);
  keys_.assign(pages.size(), nullptr);
  for (size_t i = 0; i < pages.size(); ++i)
    if (context.has_kv(pages[i])) keys_[i] = context.page(pages[i])->k(layer);
  collect(context, pages, keys_);
  // Kept: what the ring gathers next takes its place.
  const int64_t bytes = context.layout().chunk_bytes();
  visiting_bytes_.resize(pages.size() * bytes);
  visiting_.clear();
  for (size_t i = 0; i < pages.size(); ++i) {
    if (context.has_kv(pages[i])) continue;
    std::byte* const to = visiting_bytes_.data() + i * bytes;
    std::copy_n(keys_[i], bytes, to);
    visiting_[pages[i]] = to;
  }
}

void ContextAttention::collect(const Context& context, std::span<const int64_t> numbers,
                               std::vector<const std::byte*>& keys) {
  std::vector<int> owners;
  for (const int64_t u : numbers) owners.push_back(context.owner(u));
  ring_->share_chunks(owners, context.layout().chunk_bytes(), keys);
}

void ContextAttention::near(const Part& part, int layer, int64_t first,
                            std::vector<kernels::KvBlock>& blocks) {
  Context& context = *part.context;
  const int64_t unit = context.layout().unit, end = part.position + part.tokens;
  blocks.clear();
  for (int64_t u = first; u * unit < end; ++u) {
    const std::byte* const keys = keys_of(context, layer, u);
    if (!keys) continue;
    kernels::KvBlock block = block_of(context, keys, u);
    block.end = static_cast<int32_t>(std::min(unit, end - u * unit));
    turn_keys(context, u, false, block);
    blocks.push_back(block);
  }
}

void ContextAttention::far_pages(const Part& part, int layer,
                                 std::vector<kernels::KvBlock>& blocks) {
  Context& context = *part.context;
  const PolicyConfig& config = context.policy().config();
  const Placement place = context.policy().position();
  const Always always = context.policy().always();
  const int64_t unit = config.unit;
  const int32_t sinks = always.sinks ? config.sinks : 0;
  const int64_t end = part.position + part.tokens;
  blocks.clear();
  auto add = [&](int64_t u, int32_t from, int32_t to) {
    const std::byte* const keys = keys_of(context, layer, u);
    if (!keys) return;
    kernels::KvBlock block = block_of(context, keys, u);
    block.begin = from;
    block.end = to;
    if (place.rotate_keys) turn_keys(context, u, false, block);
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

void ContextAttention::turn_keys(const Context& context, int64_t number, bool sliding,
                                 kernels::KvBlock& block) {
  const PageLayout& layout = context.layout();
  rotations_[sliding && layout.sliding_rope].turn(block, number, layout.unit,
                                                  context.inv_freq(sliding));
}

void ContextAttention::units(Part& part, int layer, std::span<const int64_t> units, bool first,
                             std::vector<kernels::KvBlock>& blocks) {
  if (units.empty()) return;
  Context& context = *part.context;
  const bool sliding = context.config().slides(layer);
  wants_.clear();
  for (int64_t u : units)
    if (context.has_kv(u))
      wants_.push_back({context.history().page_keys()[u], static_cast<uint32_t>(layer)});
  cache_.fetch(wants_, context.layout().chunk_bytes());
  std::vector<const std::byte*>& keys = keys_;
  keys.assign(units.size(), nullptr);
  for (size_t i = 0, want = 0; i < units.size(); ++i) {
    if (!context.has_kv(units[i])) continue;
    const UnitCache::Want& found = wants_[want++];
    if (first && !sliding)
      ++(found.from_store ? context.counters.reads_store : context.counters.reads_ram);
    keys[i] = found.data;
    if (!found.data) part.missing.push_back(units[i]);
  }
  if (keys_travel_) collect(context, units, keys);
  const Placement place = context.policy().position();
  const bool shown = context.policy().always().sinks && !sliding;
  const bool rotated = sliding || place.rotate_keys;
  for (size_t i = 0; i < units.size(); ++i) {
    if (!keys[i]) continue;
    kernels::KvBlock block = block_of(context, keys[i], units[i]);
    block.begin = shown && units[i] == 0 ? context.policy().config().sinks : 0;
    if (rotated) turn_keys(context, units[i], sliding, block);
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
    choose(part.position);
    for (const int64_t u : part.units) choose(u);
  }
  const kernels::HeadShape& shape = parts_.front().context->layout().shape;
  if (own.size() == rows) {
    if (!ring_->merge_everywhere(note, shape, rows, o, lse_.data(), threads_)) return true;
  } else if (parts_.front().context->sealed() == 0 || !ring_->exchange(note)) {
    if (!keys_travel_) ring_->merge_to_owners(shape, rows, o, lse_.data(), threads_);
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
  recover_(context, part.missing, Lost::Page);
}

}  // namespace ringtide::model

#include "model/context.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "kernels/elementwise.h"
#include "kernels/index_scan.h"
#include "model/group_reader.h"

namespace ringtide::model {
namespace {

// Those of n positions from `position` on, behind the `rows` that are there.
void add_rotation(std::span<const double> inv_freq, int64_t position, int64_t rows, int64_t n,
                  Context::Rotation& r) {
  const auto half = static_cast<int64_t>(inv_freq.size());
  r.cos.resize((rows + n) * half);
  r.sin.resize((rows + n) * half);
  kernels::rope_angles(inv_freq, position, n, r.cos.data() + rows * half,
                       r.sin.data() + rows * half);
}

Context::Rotation rotation(std::span<const double> inv_freq, int64_t position) {
  Context::Rotation r;
  add_rotation(inv_freq, position, 0, 1, r);
  return r;
}

}  // namespace

Context::Context(ContextId id, std::shared_ptr<const MemoryPolicy> policy, const PageLayout& layout,
                 const ModelConfig& config, const std::string& fingerprint, ShardRing* ring)
    : id_(id),
      policy_(std::move(policy)),
      layout_(layout),
      config_(config),
      history_(policy_->config(), fingerprint),
      index_(layout),
      ring_(ring),
      owners_(ring ? PageOwners(ring->shard(), ring->shards(), layout.unit, ring->unit_copies())
                   : PageOwners()),
      lookup_(rotation(config.rope_inv_freq, policy_->config().window - 1)),
      limit_(rotation(config.rope_inv_freq,
                      std::min(policy_->position().query_limit, int64_t{1} << 40))) {}

std::shared_ptr<Page> Context::new_page(int64_t number, const PageOwners& owners) const {
  return std::make_shared<Page>(layout_, number * layout_.unit, owners.kept(number));
}

void Context::begin(std::span<const TokenId> tokens) {
  const int64_t past = processed(), begin = begun(), unit = layout_.unit;
  pass_.insert(pass_.end(), tokens.begin(), tokens.end());
  lengths_.push_back(tokens.size());
  picked.clear();
  logits.clear();
  const int64_t end = begun();
  owners_.append(end - begin);
  while (pages_end() * unit < end) pages_.push_back(new_page(pages_end(), owners_));

  const int64_t rows = begin - past, n = end - begin;
  add_rotation(config_.rope_inv_freq, begin, rows, n, near_);
  if (layout_.sliding_rope) add_rotation(config_.sliding_inv_freq, begin, rows, n, sliding_);
  const int64_t half = layout_.shape.head_dim / 2, limit = policy_->position().query_limit;
  const auto follow = [&](const std::vector<float>& near, std::vector<float>& far) {
    far.resize(rows * half);
    far.insert(far.end(), near.begin() + rows * half, near.end());
  };
  follow(near_.cos, far_.cos);
  follow(near_.sin, far_.sin);
  for (int64_t p = begin; p < end; ++p) {
    if (p <= limit) continue;
    std::ranges::copy(limit_.cos, far_.cos.begin() + (p - past) * half);
    std::ranges::copy(limit_.sin, far_.sin.begin() + (p - past) * half);
  }
}

void Context::put(int layer, int64_t position, int64_t count, const float* k, const float* v) {
  const int64_t dim = layout_.shape.head_dim, kv_heads = layout_.shape.kv_heads;
  const int64_t row_bytes = dim * kernels::kv_bytes(layout_.type);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t p = position + i;
    Page& at = *page(p / layout_.unit);
    if (!at.has_kv()) continue;
    for (int64_t g = 0; g < kv_heads; ++g) {
      const int64_t to = (g * layout_.unit + p % layout_.unit) * row_bytes;
      const int64_t from = (i * kv_heads + g) * dim;
      kernels::to_kv(layout_.type, k + from, dim, at.k(layer) + to);
      kernels::to_kv(layout_.type, v + from, dim, at.v(layer) + to);
    }
  }
}

void Context::finish(const float* last, int32_t hidden_size, UnitStore& store, UnitCache& cache,
                     kernels::ThreadPool& threads) {
  hidden.assign(last, last + hidden_size);
  const int64_t stored = static_cast<int64_t>(history_.page_keys().size());
  int64_t sealed = 0;
  size_t at = 0;
  for (const size_t length : lengths_) {
    if (sealed > 0) throw std::logic_error("a pass goes on behind a block that seals a unit");
    sealed = history_.add(std::span(pass_).subspan(at, length));
    at += length;
  }
  for (int64_t n = stored; n < static_cast<int64_t>(history_.page_keys().size()); ++n)
    store_page(n, pages_[n - base_], store);
  if (policy_->represents()) represent(sealed, threads);
  for (int64_t n = sealed; n > 0; --n) seal(store, cache);
  pass_.clear();
  lengths_.clear();
}

void Context::store_page(int64_t number, const std::shared_ptr<Page>& page,
                         UnitStore& store) const {
  if (!page->has_kv()) return;
  // Sums go on to change while the page is on its way; its keys and values do not.
  struct Kept {
    std::shared_ptr<Page> page;
    std::vector<float> query_sums, logit_sums;
  };
  const auto kept = std::make_shared<Kept>();
  kept->page = page;
  SealedUnit full;
  full.key = history_.page_keys()[number];
  full.number = number;
  for (int l = 0; l < layout_.layers; ++l) full.parts.push_back(std::as_const(*page).chunk(l));
  if (policy_->represents()) {
    kept->query_sums.assign(page->query_sums().begin(), page->query_sums().end());
    kept->logit_sums.assign(page->logit_sums().begin(), page->logit_sums().end());
    full.parts.push_back(std::as_bytes(std::span(kept->query_sums)));
    full.parts.push_back(std::as_bytes(std::span(kept->logit_sums)));
  }
  full.owner = kept;
  store.put(id_, std::move(full));
}

void Context::seal(UnitStore& store, UnitCache& cache) {
  std::shared_ptr<Page> page = pages_.front();
  const int64_t unit = page->position() / layout_.unit;
  if (policy_->represents()) {
    const auto entry = std::make_shared<std::vector<std::byte>>(page->representatives().begin(),
                                                                page->representatives().end());
    if (auto group = index_.add(*entry)) seal_group(std::move(group), store, cache);
    SealedUnit sealed;
    sealed.key = history_.keys()[unit];
    sealed.kind = SealedUnit::Kind::Entry;
    sealed.number = unit;
    sealed.parts = {*entry};
    sealed.owner = entry;
    store.put(id_, std::move(sealed));
  }
  if (has_kv(unit) && policy_->reside(unit) == Residency::Keep)
    for (int l = 0; l < layout_.layers; ++l)
      if (reads_units(l))
        cache.admit(history_.page_keys()[unit], static_cast<uint32_t>(l),
                    std::as_const(*page).chunk(l));
  if (unit == 0) first_ = page;
  pages_.pop_front();
  ++base_;
}

void Context::seal_group(std::shared_ptr<const IndexGroup> group, UnitStore& store,
                         UnitCache& cache) {
  SealedUnit sealed = sealed_group(history_, index_.groups() - 1, std::move(group), layout_.layers);
  // Shards choose alike only with the same bytes. What one of them has of an earlier ring may be
  // rounded otherwise.
  sealed.replaces = ring_ != nullptr;
  for (int l = 0; l < layout_.layers; ++l)
    if (!config_.slides(l)) cache.admit(sealed.key, static_cast<uint32_t>(l), sealed.parts[l]);
  store.put(id_, std::move(sealed));
}

void Context::represent(int64_t count, kernels::ThreadPool& threads) {
  for (int64_t i = 0; i < count; ++i)
    if (has_kv(base_ + i)) represent(i, *pages_[i], threads);
  if (ring_ && count > 0) share_representatives(count);
}

// Each shard gives those of its own pages, in their order.
void Context::share_representatives(int64_t count) {
  const int64_t size = layout_.unit_index_bytes();
  std::vector<int64_t> given(ring_->shards());
  for (int64_t i = 0; i < count; ++i) ++given[owners_.of(base_ + i)];
  const int64_t room = *std::max_element(given.begin(), given.end()) * size;
  std::vector<std::byte> mine;
  mine.reserve(room);
  for (int64_t i = 0; i < count; ++i) {
    if (!has_kv(base_ + i)) continue;
    const auto own = pages_[i]->representatives();
    mine.insert(mine.end(), own.begin(), own.end());
  }
  mine.resize(room);
  const std::span<const std::byte> all = ring_->gather(mine);
  std::fill(given.begin(), given.end(), 0);
  for (int64_t i = 0; i < count; ++i) {
    const int owner = owners_.of(base_ + i);
    const auto from = all.subspan(owner * room + given[owner]++ * size, size);
    std::copy(from.begin(), from.end(), pages_[i]->representatives().begin());
  }
}

// Score of a key, as published: the mean of its logits over the queries of its window; the mean's
// divisor does not change the order. Queries that stand in pages wholly inside every key's window
// are summed once, since a sum of logits is the logit of the sum; those of the first and last page
// were summed key by key as they came.
void Context::represent(int64_t at, Page& page, kernels::ThreadPool& threads) {
  const auto& shape = layout_.shape;
  const int64_t dim = shape.head_dim, half = dim / 2, n = layout_.unit;
  const int64_t whole = policy_->config().window / layout_.unit - 1;
  const int64_t row_bytes = layout_.row() * kernels::kv_bytes(layout_.type);
  const float scale = config_.attention_scale;
  std::vector<float> keys(shape.kv_heads * n * dim), rotated(keys.size());
  std::vector<float> cos(n * half), sin(n * half);
  kernels::rope_angles(config_.rope_inv_freq, page.position(), n, cos.data(), sin.data());
  std::vector<float> queries(layout_.row()), scores(shape.heads * n), logit(n), out(layout_.row());
  for (int l = 0; l < layout_.layers; ++l) {
    if (config_.slides(l)) continue;  // has no index: what it keeps stays 0
    kernels::from_kv(layout_.type, page.k(l), static_cast<int64_t>(keys.size()), keys.data());
    for (int g = 0; g < shape.kv_heads; ++g)
      kernels::rope(keys.data() + g * n * dim, n, 1, shape.head_dim, cos.data(), sin.data(), half,
                    rotated.data() + g * n * dim, threads);
    std::fill(queries.begin(), queries.end(), 0.0f);
    for (int64_t w = 1; w <= whole; ++w) {
      const float* sum = pages_[at + w]->query_sum(l);
      for (size_t i = 0; i < queries.size(); ++i) queries[i] += sum[i];
    }
    for (int h = 0; h < shape.heads; ++h) {
      const int64_t g = h / (shape.heads / shape.kv_heads);
      kernels::dot_heads(kernels::KvType::F32, rotated.data() + g * n * dim, n, 1, dim,
                         queries.data() + h * dim, false, logit.data(), n);
      for (int64_t t = 0; t < n; ++t)
        scores[h * n + t] = page.logit_sums(l)[h * n + t] + scale * logit[t];
    }
    const int32_t begin = page.position() == 0 ? policy_->config().sinks : 0;
    policy_->represent(shape, keys.data(), scores.data(), begin, out.data());
    kernels::to_kv(layout_.type, out.data(), layout_.row(),
                   page.representatives().subspan(l * row_bytes).data());
  }
}

Page* Context::page(int64_t number) {
  const int64_t at = number - base_;
  if (at >= 0 && at < static_cast<int64_t>(pages_.size())) return pages_[at].get();
  return number == 0 ? first_.get() : nullptr;
}

int64_t Context::sliding_begin(int64_t position) const {
  return std::max<int64_t>(0, position - config_.sliding_window + 1) / layout_.unit;
}

// A unit is sealed when it has left the policy's window; a layer that slides a smaller one does not
// see it any more.
bool Context::reads_units(int layer) const {
  return !config_.slides(layer) || config_.sliding_window > policy_->config().window;
}

int64_t Context::held_bytes() const { return index_.bytes() + history_.bytes() + owners_.bytes(); }

ContextStats Context::stats() const {
  ContextStats s = counters;
  s.tokens = processed();
  s.units = static_cast<int64_t>(history_.page_keys().size());
  s.window_bytes = index_.open_bytes();
  for (const auto& page : pages_) s.window_bytes += layout_.page_bytes(page->has_kv());
  if (first_) s.window_bytes += layout_.page_bytes(first_->has_kv());
  s.index_bytes = held_bytes();
  return s;
}

}  // namespace ringtide::model

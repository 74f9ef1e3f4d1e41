#include "model/infllm_policy.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/index_scan.h"

namespace ringtide::model {

void InfLlmPolicy::represent(const kernels::HeadShape& shape, const float* keys,
                             const float* scores, int32_t begin, float* out) const {
  const int32_t unit = config().unit;
  const int dim = shape.head_dim;
  const int group = shape.heads / shape.kv_heads;
  const int take = std::min(config().representatives, unit - begin);
  std::vector<int32_t> order(unit - begin);
  std::fill_n(out, int64_t{shape.heads} * dim, 0.0f);
  if (take <= 0) return;
  for (int h = 0; h < shape.heads; ++h) {
    const float* s = scores + int64_t{h} * unit;
    std::iota(order.begin(), order.end(), begin);
    std::partial_sort(order.begin(), order.begin() + take, order.end(),
                      [s](int32_t a, int32_t b) { return s[a] != s[b] ? s[a] > s[b] : a < b; });
    float* o = out + int64_t{h} * dim;
    for (int i = 0; i < take; ++i) {
      const float* k = keys + (int64_t{h / group} * unit + order[i]) * dim;
      for (int j = 0; j < dim; ++j) o[j] += k[j];
    }
    for (int j = 0; j < dim; ++j) o[j] /= static_cast<float>(take);
  }
}

namespace {

// The `count` of [0, relevance.size()) with the highest relevance (ties: the lower), ascending.
std::vector<int64_t> best(std::span<const float> relevance, int64_t count) {
  std::vector<int64_t> order(relevance.size());
  std::iota(order.begin(), order.end(), 0);
  if (count < static_cast<int64_t>(order.size())) {
    const auto better = [relevance](int64_t a, int64_t b) {
      return relevance[a] != relevance[b] ? relevance[a] > relevance[b] : a < b;
    };
    std::nth_element(order.begin(), order.begin() + count, order.end(), better);
    order.resize(count);
    std::sort(order.begin(), order.end());
  }
  return order;
}

// Scores (heads, n) become votes; returns their sums over heads, (n), which lie behind them.
std::span<const float> count_votes(std::span<float> scores, int64_t n, HeadVote vote,
                                   const Lookup& lookup) {
  const kernels::HeadShape& shape = lookup.index.layout().shape;
  if (vote == HeadVote::Softmax)
    lookup.threads.parallel_for(shape.heads, [&](int64_t h, int) {
      kernels::softmax(scores.data() + h * n, n, lookup.scale);
    });
  float* sum = scores.data() + shape.heads * n;
  std::fill_n(sum, n, 0.0f);
  for (int h = 0; h < shape.heads; ++h)
    for (int64_t i = 0; i < n; ++i) sum[i] += scores[h * n + i];
  return {sum, static_cast<size_t>(n)};
}

// Room for scores (heads, n) and the sums of their votes.
std::span<float> score_room(const Lookup& lookup, int64_t n) {
  lookup.scratch.resize((lookup.index.layout().shape.heads + 1) * n);
  return lookup.scratch;
}

std::vector<int64_t> probed_groups(const Lookup& lookup, const PolicyConfig& config) {
  const int64_t n = lookup.index.groups();
  if (n <= config.probe) return best(std::vector<float>(n), n);
  const std::span<float> scores = score_room(lookup, n);
  lookup.index.group_scores(lookup.layer, lookup.query, scores.data(), n, lookup.threads);
  return best(count_votes(scores, n, config.vote, lookup), config.probe);
}

}  // namespace

void InfLlmPolicy::select(const Lookup& lookup, std::vector<int64_t>& units) const {
  // A first unit made of nothing but sinks is always seen and never selected.
  const int64_t first = config().sinks == config().unit ? 1 : 0;
  const int64_t candidates = std::max<int64_t>(0, lookup.sealed - first);
  units.clear();
  if (candidates <= config().select) {
    units.resize(candidates);
    std::iota(units.begin(), units.end(), first);
    return;
  }

  constexpr int64_t kGroup = UnitIndex::kGroup;
  const UnitIndex& index = lookup.index;
  const PageLayout& layout = index.layout();
  const kernels::HeadShape& shape = layout.shape;
  const int64_t row = layout.row() * kernels::kv_bytes(layout.type);
  const std::vector<int64_t> groups = probed_groups(lookup, config());
  // Units that are compared: those of the groups, then the open group's; without the first.
  const int64_t skip = first == 1 && (groups.empty() || groups.front() == 0) ? 1 : 0;
  const int64_t in_groups = static_cast<int64_t>(groups.size()) * kGroup;
  const int64_t open = index.units() - index.groups() * kGroup;
  const int64_t n = in_groups + open - skip;
  const std::span<float> scores = score_room(lookup, n);
  // Units of one group from the at-th place on; place 0 may be the one to skip.
  const auto score = [&](const std::byte* rows, int64_t at, int64_t count) {
    const int64_t from = at == 0 ? skip : 0;
    kernels::dot_heads(layout.type, rows + from * row, count - from, shape.heads, shape.head_dim,
                       lookup.query, false, scores.data() + at + from - skip, n);
  };
  std::vector<const std::byte*> rows;
  for (size_t done = 0; done < groups.size(); done += rows.size()) {
    lookup.fetch(
        std::span(groups).subspan(done, std::min<size_t>(kGroupsAtOnce, groups.size() - done)),
        rows);
    lookup.threads.parallel_for(static_cast<int64_t>(rows.size()), [&](int64_t i, int) {
      score(rows[i], (static_cast<int64_t>(done) + i) * kGroup, kGroup);
    });
  }
  if (open > 0) score(index.open_rows(lookup.layer), in_groups, open);

  for (const int64_t i : best(count_votes(scores, n, config().vote, lookup), config().select)) {
    const int64_t at = i + skip;
    units.push_back(at < in_groups ? groups[at / kGroup] * kGroup + at % kGroup
                                   : index.groups() * kGroup + at - in_groups);
  }
}

Placement InfLlmPolicy::position() const {
  if (config().true_positions)
    return {.query_limit = std::numeric_limits<int64_t>::max(), .true_distance = true};
  return {.rotate_keys = false, .query_limit = int64_t{config().window} - 1};
}

}  // namespace ringtide::model

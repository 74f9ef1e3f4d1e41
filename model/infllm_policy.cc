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

void InfLlmPolicy::select(const Lookup& lookup, std::vector<int64_t>& units) const {
  // A first unit made of nothing but sinks is always seen and never selected.
  const int64_t first = config().sinks == config().unit ? 1 : 0;
  const int64_t candidates = std::max<int64_t>(0, lookup.sealed - first);
  units.resize(candidates);
  std::iota(units.begin(), units.end(), first);
  if (candidates <= config().select) return;

  const int64_t n = lookup.index.size();
  const kernels::HeadShape& shape = lookup.index.shape();
  lookup.scratch.resize((shape.heads + 1) * n);
  float* votes = lookup.scratch.data();  // (heads, n)
  lookup.threads.parallel_for(shape.heads, [&](int64_t h, int) {
    float* vote = votes + h * n;
    lookup.index.scores(lookup.layer, static_cast<int>(h), lookup.query + h * shape.head_dim, vote);
    if (config().vote == HeadVote::Softmax)
      kernels::softmax(vote + first, n - first, lookup.scale);
  });
  float* relevance = votes + shape.heads * n;
  std::fill_n(relevance, n, 0.0f);
  for (int h = 0; h < shape.heads; ++h)
    for (int64_t u = first; u < n; ++u) relevance[u] += votes[h * n + u];

  const auto better = [relevance](int64_t a, int64_t b) {
    return relevance[a] != relevance[b] ? relevance[a] > relevance[b] : a < b;
  };
  std::nth_element(units.begin(), units.begin() + config().select, units.end(), better);
  units.resize(config().select);
  std::sort(units.begin(), units.end());
}

Placement InfLlmPolicy::position() const {
  if (config().true_positions)
    return {.query_limit = std::numeric_limits<int64_t>::max(), .true_distance = true};
  return {.rotate_keys = false, .query_limit = int64_t{config().window} - 1};
}

}  // namespace ringtide::model

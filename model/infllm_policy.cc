#include "model/infllm_policy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

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

void InfLlmPolicy::select(const UnitIndex& index, int layer, const float* query, int64_t sealed,
                          std::vector<int64_t>& units) const {
  // A first unit made of nothing but sinks is always seen and never selected.
  const int64_t first = config().sinks == config().unit ? 1 : 0;
  const int64_t candidates = sealed - first;
  units.clear();
  if (candidates <= 0) return;
  units.resize(candidates);
  std::iota(units.begin(), units.end(), first);
  if (candidates <= config().select) return;

  std::vector<float> scores;
  index.scores(layer, query, scores);
  const int64_t n = index.size();
  std::vector<double> relevance(n, 0.0);
  const double scale = 1.0 / std::sqrt(static_cast<double>(index.shape().head_dim));
  for (int h = 0; h < index.shape().heads; ++h) {
    const float* s = scores.data() + h * n;
    if (config().vote == HeadVote::Sum) {
      for (int64_t u = first; u < n; ++u) relevance[u] += s[u];
      continue;
    }
    const float top = *std::max_element(s + first, s + n);
    std::vector<double> p(n, 0.0);
    double total = 0;
    for (int64_t u = first; u < n; ++u) total += p[u] = std::exp((double{s[u]} - top) * scale);
    for (int64_t u = first; u < n; ++u) relevance[u] += p[u] / total;
  }
  std::partial_sort(units.begin(), units.begin() + config().select, units.end(),
                    [&](int64_t a, int64_t b) {
                      return relevance[a] != relevance[b] ? relevance[a] > relevance[b] : a < b;
                    });
  units.resize(config().select);
  std::sort(units.begin(), units.end());
}

Placement InfLlmPolicy::position() const {
  if (config().true_positions)
    return {.query_limit = std::numeric_limits<int64_t>::max(), .true_distance = true};
  return {.rotate_keys = false, .query_limit = int64_t{config().window} - 1};
}

}  // namespace ringtide::model

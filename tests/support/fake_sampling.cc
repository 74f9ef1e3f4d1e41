#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tests/support/fake_operations.h"

namespace ringtide::testing {

using namespace kernels;        // NOLINT: the whole file is about these
using namespace kernels::cuda;  // NOLINT

int32_t fake_sample(float* x, int32_t n, const SampleRow& p) {
  if (p.repetition_penalty != 1 && p.repetition_penalty > 0) {
    std::vector<int32_t> seen(p.recent, p.recent + p.recent_count);
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    for (int32_t t : seen)
      if (t >= 0 && t < n)
        x[t] = x[t] > 0 ? x[t] / p.repetition_penalty : x[t] * p.repetition_penalty;
  }
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return x[a] > x[b]; });
  if (!(p.temperature > 0)) return order[0];
  if (p.top_k > 0 && p.top_k < n) order.resize(p.top_k);
  const double top = x[order[0]];
  const auto weight = [&](int32_t i) { return std::exp((x[i] - top) / p.temperature); };
  if (p.min_p > 0)
    std::erase_if(order, [&](int32_t i) { return weight(i) < std::min(p.min_p, 1.0f); });
  double total = 0, held = 0;
  for (int32_t i : order) total += weight(i);
  if (p.top_p < 1)
    for (size_t i = 0; i < order.size(); ++i)
      if ((held += weight(order[i])) >= p.top_p * total) order.resize(i + 1);
  std::sort(order.begin(), order.end());
  total = 0;
  for (int32_t i : order) total += weight(i);
  double rest = p.uniform * total;
  for (int32_t i : order)
    if ((rest -= weight(i)) < 0) return i;
  return order.back();
}

}  // namespace ringtide::testing

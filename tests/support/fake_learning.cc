#include <algorithm>
#include <numeric>
#include <vector>

#include "tests/support/fake_operations.h"
#include "tests/support/fake_values.h"

namespace ringtide::testing {

using namespace kernels;        // NOLINT: the whole file is about these
using namespace kernels::cuda;  // NOLINT

void fake_learn(const Learn& a) {
  const int dim = a.shape.head_dim;
  const int64_t row = int64_t{a.shape.heads} * dim;
  for (int32_t i = 0; i < a.run_count * a.layers; ++i) {
    const LearnRun& run = a.runs[i % a.run_count];
    const int32_t layer = i / a.run_count;
    const bf16* const q = at(a.q, layer * a.layer_q);
    const int64_t sum_offset = a.sum_offset + layer * row;
    const int64_t logit_offset = a.logit_offset + int64_t{layer} * a.shape.heads * a.unit;
    const int32_t row_offset = a.row_offset + layer * a.layer_rows;
    const auto score = [&](int32_t plane, int64_t position, int32_t end, float* sums) {
      if (!sums) return;
      for (int32_t i = run.q_begin; i < run.q_end; ++i)
        for (int h = 0; h < a.shape.heads; ++h)
          for (int32_t t = 0; t < end; ++t) {
            const int64_t distance = run.q_position + i - run.q_begin - position - t;
            if (distance < 0 || distance >= a.window) continue;
            const int64_t k = plane + row_offset + int64_t{h / a.shape.group()} * a.unit + t;
            sums[logit_offset + int64_t{h} * a.unit + t] +=
                a.scale * dot(at(q, i * row + int64_t{h} * dim), at(a.arena.base, k * dim), dim);
          }
    };
    if (run.query_sum)
      for (int32_t i = run.q_begin; i < run.q_end; ++i)
        for (int64_t j = 0; j < row; ++j) run.query_sum[sum_offset + j] += value(q, i * row + j);
    score(run.own_row, run.own_position, run.own_end, run.own_sums);
    score(run.leaving_row, run.leaving_position, a.unit, run.leaving_sums);
  }
}

void fake_represent(const Represent& a) {
  const int dim = a.shape.head_dim;
  const int64_t row = int64_t{a.shape.heads} * dim;
  const int32_t take = std::min(a.take, a.unit - a.begin);
  std::vector<float> score(a.unit);
  std::vector<int32_t> order;
  for (int32_t l = a.first_layer; l < a.end_layer; ++l)
    for (int h = 0; h < a.shape.heads; ++h) {
      const int64_t g = int64_t{h / a.shape.group()} * a.unit + int64_t{l} * a.layer_rows;
      for (int32_t t = 0; t < a.unit; ++t) {
        const int64_t key = (int64_t{l} * a.shape.heads + h) * a.unit + t;
        score[t] = a.own_sums[key] + a.leaving_sums[key];
        float logit = 0;
        for (int j = 0; j < dim; ++j) {
          float sum = 0;
          for (int32_t w = 0; w < a.whole; ++w)
            sum += a.query_sums[w][l * row + int64_t{h} * dim + j];
          logit += sum * value(a.arena.base, (a.rotated_row + g + t) * dim + j);
        }
        score[t] += a.scale * logit;
      }
      order.resize(a.unit - a.begin);
      std::iota(order.begin(), order.end(), a.begin);
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t x, int32_t y) { return score[x] > score[y]; });
      for (int j = 0; j < dim; ++j) {
        float mean = 0;
        for (int32_t i = 0; i < take; ++i)
          mean += value(a.arena.base, (a.raw_row + g + order[i]) * dim + j);
        if (take > 0) mean /= static_cast<float>(take);
        const int64_t to = int64_t{h} * dim + j;
        a.out32[l * row + to] = mean;
        store(a.group, (int64_t{l} * kIndexGroup + a.slot) * row + to, mean);
      }
    }
}

}  // namespace ringtide::testing

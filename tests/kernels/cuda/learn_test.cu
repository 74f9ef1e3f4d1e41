#include <algorithm>
#include <numeric>

#include "kernels/cuda/learn.h"
#include "kernels/cuda/lookup.h"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {
namespace {

struct LearnTest : DeviceTest {};

TEST_F(LearnTest, MeanQueryIsRotatedOnce) {
  for (const Heads& shape : kShapes) {
    const int dim = shape.head_dim, half = dim / 2;
    const std::vector<int32_t> begin = {0, 1, 1, 60, 572}, angle = {3, 0, 2, 1};
    const int64_t row = int64_t{shape.heads} * dim;
    const auto q = normals_bf16(random, begin.back() * row);
    const auto cos = normals(random, 4 * half), sin = normals(random, 4 * half);
    Device<bf16> dq(q), out(4 * row), alone(row);
    Device<float> dcos(cos), dsin(sin);
    Device<int32_t> dbegin(begin), dangle(angle);
    mean_query(shape, dq, dbegin, dangle, 4, dcos, dsin, out, nullptr);
    std::vector<double> want;
    for (int r = 0; r < 4; ++r)
      for (int h = 0; h < shape.heads; ++h) {
        std::vector<double> mean(dim);
        for (int i = begin[r]; i < begin[r + 1]; ++i)
          for (int d = 0; d < dim; ++d) mean[d] += value(q[i * row + h * dim + d]);
        for (double& x : mean) x /= std::max(1, begin[r + 1] - begin[r]);
        for (int d = 0; d < dim; ++d) {
          const double c = cos[angle[r] * half + d % half], s = sin[angle[r] * half + d % half];
          want.push_back(d < half ? mean[d] * c - mean[d + half] * s
                                  : mean[d] * c + mean[d - half] * s);
        }
      }
    const auto got = out.host();
    EXPECT_LT(error(got, want), kRounding);
    mean_query(shape, dq, dbegin + 3, dangle + 3, 1, dcos, dsin, alone, nullptr);
    EXPECT_TRUE(same_bits(alone.host(), part(got, 3 * row, row)));
  }
}

// Queries of one page, however they are cut into calls, against their own page and the leaving one.
TEST_F(LearnTest, SumsByQueryHoweverCallsAreCut) {
  for (const Heads& shape : kShapes) {
    for (const int unit : {8, 40, 128}) {
      const int dim = shape.head_dim, plane = shape.kv_heads * unit, layer_rows = 3;
      const int64_t window = 4 * unit, page = 9, row = int64_t{shape.heads} * dim;
      const int m = unit - 2;  // queries; the page is not full
      const auto q = normals_bf16(random, m * row);
      const auto arena = normals_bf16(random, (2 * plane + layer_rows) * dim);
      Device<bf16> dq(q), darena(arena);
      const int64_t sums = int64_t{shape.heads} * unit;
      const float scale = 0.125f;

      const auto learn_cut = [&](const std::vector<int>& cuts, std::vector<float>& query,
                                 std::vector<float>& own, std::vector<float>& leaving) {
        Device<float> dquery(2 * row), down(2 * sums), dleaving(2 * sums);
        dquery.zero();
        down.zero();
        dleaving.zero();
        int from = 0;
        for (const int n : cuts) {
          LearnRun run;
          run.q_begin = from;
          run.q_end = from + n;
          run.q_position = page * unit + from;
          run.query_sum = dquery;
          run.own_row = 0;
          run.own_end = from + n;
          run.own_position = page * unit;
          run.own_sums = down;
          run.leaving_row = plane;
          run.leaving_position = page * unit - window;
          run.leaving_sums = dleaving;
          Device<LearnRun> druns(std::vector{run});
          Learn a;
          a.shape = shape;
          a.unit = unit;
          a.arena = {darena, 2 * plane + layer_rows};
          a.q = dq;
          a.runs = druns;
          a.run_count = 1;
          a.row_offset = layer_rows;
          a.sum_offset = row;
          a.logit_offset = sums;
          a.window = window;
          a.scale = scale;
          a.max_queries = n == 1 ? 1 : 0;  // single queries take a path of their own
          learn(a, nullptr);
          from += n;
        }
        query = part(dquery.host(), row, row);
        own = part(down.host(), sums, sums);
        leaving = part(dleaving.host(), sums, sums);
      };
      std::vector<float> query, own, leaving, query2, own2, leaving2;
      learn_cut({m}, query, own, leaving);
      learn_cut({1, 2, m - 4, 1}, query2, own2, leaving2);
      EXPECT_TRUE(same_bits(query, query2));
      EXPECT_TRUE(same_bits(own, own2));
      EXPECT_TRUE(same_bits(leaving, leaving2));

      std::vector<double> want_query(row), want_own(sums), want_leaving(sums);
      for (int i = 0; i < m; ++i)
        for (int h = 0; h < shape.heads; ++h) {
          const bf16* one = q.data() + i * row + h * dim;
          for (int d = 0; d < dim; ++d) want_query[h * dim + d] += value(one[d]);
          for (int t = 0; t < unit; ++t) {
            const auto logit = [&](int32_t first) {
              const bf16* k =
                  arena.data() + (int64_t{first} + layer_rows + h / shape.group() * unit + t) * dim;
              double dot = 0;
              for (int d = 0; d < dim; ++d) dot += value(one[d]) * value(k[d]);
              return dot * scale;
            };
            if (t <= i) want_own[h * unit + t] += logit(0);
            if (t > i) want_leaving[h * unit + t] += logit(plane);
          }
        }
      EXPECT_LT(error(query, want_query), 1e-5);
      EXPECT_LT(error(own, want_own), 1e-5);
      EXPECT_LT(error(leaving, want_leaving), 1e-5);
    }
  }
}

// Of all layers at once, the same as of one after the other.
TEST_F(LearnTest, LayersTogetherAreEachItsOwn) {
  const Heads shape{8, 2, 64};
  const int unit = 16, layers = 3, runs = 2, dim = 64, plane = shape.kv_heads * unit;
  const int64_t row = shape.heads * dim, sums = shape.heads * unit, layer_q = 4 * row;
  const int layer_rows = 2 * runs * plane;
  Device<bf16> q(normals_bf16(random, layers * layer_q)),
      arena(normals_bf16(random, int64_t{layers} * layer_rows * dim));
  Device<float> query(runs * layers * row), own(runs * layers * sums), leaving(runs * layers * sums);
  std::vector<LearnRun> list;
  for (int i = 0; i < runs; ++i) {
    LearnRun run{i, i + 1, 111 + i, query + i * layers * row};
    run.own_row = 2 * i * plane;
    run.own_end = unit;
    run.own_position = 96;
    run.own_sums = own + i * layers * sums;
    run.leaving_row = (2 * i + 1) * plane;
    run.leaving_position = 32;
    run.leaving_sums = leaving + i * layers * sums;
    list.push_back(run);
  }
  Device<LearnRun> drun(list);
  Learn a;
  a.shape = shape;
  a.unit = unit;
  a.arena = {arena, int64_t{layers} * layer_rows};
  a.q = q;
  a.runs = drun;
  a.run_count = runs;
  a.window = 64;
  a.scale = 0.5f;
  a.max_queries = 1;
  a.layer_rows = layer_rows;
  a.layer_q = layer_q;
  const auto clear = [&] {
    query.zero();
    own.zero();
    leaving.zero();
  };
  clear();
  a.layers = layers;
  learn(a, nullptr);
  const auto query1 = query.host(), own1 = own.host(), leaving1 = leaving.host();
  clear();
  a.layers = 1;
  for (int l = 0; l < layers; ++l) {
    a.q = q + l * layer_q;
    a.row_offset = l * layer_rows;
    a.sum_offset = l * row;
    a.logit_offset = l * sums;
    learn(a, nullptr);
  }
  EXPECT_TRUE(same_bits(query1, query.host()));
  EXPECT_TRUE(same_bits(own1, own.host()));
  EXPECT_TRUE(same_bits(leaving1, leaving.host()));
  for (const float x : own1) EXPECT_NE(x, 0);
}

// Rows of a batch: several runs in one call, some without a leaving page.
TEST_F(LearnTest, RunsDoNotTouchEachOther) {
  const Heads shape{8, 2, 64};
  const int unit = 16, plane = shape.kv_heads * unit, runs = 5, dim = 64;
  const int64_t row = shape.heads * dim, sums = shape.heads * unit;
  Device<bf16> q(normals_bf16(random, runs * row)),
      arena(normals_bf16(random, 2 * runs * plane * dim));
  Device<float> query(runs * row), own(runs * sums), leaving(runs * sums);
  const auto go = [&](int first, int count, std::vector<float>& a, std::vector<float>& b,
                      std::vector<float>& c) {
    query.zero();
    own.zero();
    leaving.zero();
    std::vector<LearnRun> list;
    for (int i = first; i < first + count; ++i) {
      LearnRun run{i, i + 1, 100 + i, query + i * row};
      run.own_row = 2 * i * plane;
      run.own_end = unit;
      run.own_position = 96;
      run.own_sums = own + i * sums;
      run.leaving_row = (2 * i + 1) * plane;
      run.leaving_position = 32;
      run.leaving_sums = i == 2 ? nullptr : leaving + i * sums;
      list.push_back(run);
    }
    Device<LearnRun> drun(list);
    Learn all;
    all.shape = shape;
    all.unit = unit;
    all.arena = {arena, 2 * runs * plane};
    all.q = q;
    all.runs = drun;
    all.run_count = count;
    all.window = 64;
    all.scale = 0.5f;
    all.max_queries = 1;
    learn(all, nullptr);
    a = query.host();
    b = own.host();
    c = leaving.host();
  };
  std::vector<float> a, b, c, a1, b1, c1;
  go(0, runs, a, b, c);
  for (int i = 0; i < runs; ++i) {
    go(i, 1, a1, b1, c1);
    EXPECT_TRUE(same_bits(part(a1, i * row, row), part(a, i * row, row)));
    EXPECT_TRUE(same_bits(part(b1, i * sums, sums), part(b, i * sums, sums)));
    EXPECT_TRUE(same_bits(part(c1, i * sums, sums), part(c, i * sums, sums)));
  }
  learn({shape, unit, {}, nullptr, nullptr, 0}, nullptr);
}

TEST_F(LearnTest, RepresentsByTheMeanOfTheBestKeys) {
  for (const Heads& shape : kShapes) {
    for (const int unit : {8, 128}) {
      const int dim = shape.head_dim, plane = shape.kv_heads * unit, layers = 3, whole = 3;
      const int layer_rows = 2 * plane, begin = 2, take = 4, slot = 63;
      const int64_t row = int64_t{shape.heads} * dim;
      const auto arena = normals_bf16(random, layers * layer_rows * dim);
      auto own_sums = normals(random, layers * shape.heads * unit, 20);
      auto leaving_sums = normals(random, layers * shape.heads * unit, 20);
      std::vector<std::vector<float>> pages;
      std::vector<std::unique_ptr<Device<float>>> dpages;
      std::vector<const float*> pointers;
      for (int i = 0; i < whole; ++i) {
        pages.push_back(normals(random, layers * row, 4));
        dpages.push_back(std::make_unique<Device<float>>(pages.back()));
        pointers.push_back(*dpages.back());
      }
      Device<bf16> darena(arena), group(int64_t{layers} * kIndexGroup * row);
      Device<float> down(own_sums), dleaving(leaving_sums), out(layers * row);
      Device<const float*> dpointers(pointers);
      Represent a;
      a.shape = shape;
      a.unit = unit;
      a.layers = layers;
      a.arena = {darena, layers * layer_rows};
      a.raw_row = plane;
      a.rotated_row = 0;
      a.layer_rows = layer_rows;
      a.first_layer = 1;
      a.end_layer = layers;
      a.own_sums = down;
      a.leaving_sums = dleaving;
      a.query_sums = dpointers;
      a.whole = whole;
      a.scale = 0.25f;
      a.take = take;
      a.begin = begin;
      a.out32 = out;
      a.group = group;
      a.slot = slot;
      represent(a, nullptr);
      const auto got = out.host();
      const auto in_group = group.host();
      for (int64_t i = 0; i < row; ++i) ASSERT_TRUE(std::isnan(got[i]));  // layer 0
      for (int l = 1; l < layers; ++l)
        for (int h = 0; h < shape.heads; ++h) {
          const int64_t base = int64_t{l} * layer_rows + h / shape.group() * unit;
          std::vector<double> score(unit);
          for (int t = begin; t < unit; ++t) {
            double dot = 0;
            for (int d = 0; d < dim; ++d) {
              double sum = 0;
              for (const auto& page : pages) sum += page[l * row + h * dim + d];
              dot += sum * value(arena[(base + t) * dim + d]);
            }
            const int64_t key = (l * shape.heads + h) * unit + t;
            score[t] = double{own_sums[key]} + leaving_sums[key] + 0.25 * dot;
          }
          std::vector<int> order(unit - begin);
          std::iota(order.begin(), order.end(), begin);
          std::sort(order.begin(), order.end(), [&](int x, int y) { return score[x] > score[y]; });
          if (score[order[take - 1]] - score[order[take]] < 1e-3) continue;  // too close to say
          for (int d = 0; d < dim; ++d) {
            double mean = 0;
            for (int i = 0; i < take; ++i)
              mean += value(arena[(base + plane + order[i]) * dim + d]) / take;
            const int64_t at = l * row + h * dim + d;
            ASSERT_NEAR(got[at], mean, 1e-5);
            ASSERT_EQ(value(in_group[(int64_t{l} * kIndexGroup + slot) * row + h * dim + d]),
                      rounded(got[at]));
          }
        }
      // Equal scores: the earlier tokens.
      down.zero();
      dleaving.zero();
      a.whole = 0;
      represent(a, nullptr);
      const auto tied = out.host();
      for (int d = 0; d < dim; ++d) {
        double mean = 0;
        for (int i = 0; i < take; ++i)
          mean += value(arena[(int64_t{layer_rows} + plane + begin + i) * dim + d]) / take;
        ASSERT_NEAR(tied[row + d], mean, 1e-5);
      }
    }
  }
}

}  // namespace
}  // namespace ringtide::kernels::cuda

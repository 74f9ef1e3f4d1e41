// Lookups over an index of many groups, against the definition in float64 over the stored values.
#include "model/infllm_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

namespace ringtide::model {
namespace {

using kernels::KvType;

struct PolicyTest : ::testing::Test {
  static constexpr int kLayers = 2, kHeads = 4, kDim = 16, kRow = kHeads * kDim;
  PolicyConfig config;
  kernels::ThreadPool threads{2};
  std::vector<std::vector<float>> units;  // as stored, (layers, heads, dim) each
  std::vector<std::shared_ptr<const IndexGroup>> groups;
  std::unique_ptr<UnitIndex> index;
  int64_t most_at_once = 0, fetched = 0;

  void fill(int64_t n, KvType type, uint64_t seed) {
    const PageLayout layout{kLayers, {kHeads, 2, kDim}, config.unit, type, true};
    index = std::make_unique<UnitIndex>(layout);
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> centre(kLayers * kRow);
    units.clear();
    groups.clear();
    for (int64_t u = 0; u < n; ++u) {
      // Text changes its subject now and then.
      if (u % 50 == 0)
        for (float& x : centre) x = normal(random);
      std::vector<float> unit(centre);
      for (float& x : unit) x += 0.7f * normal(random);
      std::vector<std::byte> stored(unit.size() * kernels::kv_bytes(type));
      kernels::to_kv(type, unit.data(), static_cast<int64_t>(unit.size()), stored.data());
      kernels::from_kv(type, stored.data(), static_cast<int64_t>(unit.size()), unit.data());
      units.push_back(unit);
      if (auto group = index->add(stored)) groups.push_back(group);
    }
  }
  std::vector<float> query(uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> q(kRow);
    for (float& x : q) x = normal(random);
    return q;
  }
  std::vector<int64_t> select(int layer, const std::vector<float>& q) {
    std::vector<float> scratch;
    std::vector<int64_t> chosen;
    const std::function fetch = [&](std::span<const int64_t> wanted,
                                    std::vector<const std::byte*>& rows) {
      most_at_once = std::max<int64_t>(most_at_once, static_cast<int64_t>(wanted.size()));
      fetched += static_cast<int64_t>(wanted.size());
      rows.clear();
      for (int64_t g : wanted) rows.push_back(groups.at(g)->rows(layer).data());
    };
    InfLlmPolicy(config).select({*index, layer, q.data(), index->units(),
                                 1.0f / std::sqrt(static_cast<float>(kDim)), fetch, threads, scratch},
                                chosen);
    return chosen;
  }
  // Relevance of units `among`, by the definition.
  std::vector<double> relevance(int layer, const std::vector<float>& q,
                                const std::vector<int64_t>& among) const {
    std::vector<double> sum(among.size(), 0.0);
    for (int h = 0; h < kHeads; ++h) {
      std::vector<double> s;
      for (int64_t u : among) {
        double dot = 0;
        for (int j = 0; j < kDim; ++j)
          dot += double{units[u][layer * kRow + h * kDim + j]} * q[h * kDim + j];
        s.push_back(dot);
      }
      double total = 0;
      for (double x : s) total += std::exp(x / std::sqrt(kDim));
      for (size_t i = 0; i < s.size(); ++i)
        sum[i] += config.vote == HeadVote::Sum ? s[i] : std::exp(s[i] / std::sqrt(kDim)) / total;
    }
    return sum;
  }
  // Votes on full groups, by the definition: half the mean and half the bound of the inner product.
  std::vector<double> group_votes(int layer, const std::vector<float>& q) const {
    std::vector<double> votes(groups.size(), 0.0);
    for (int h = 0; h < kHeads; ++h) {
      std::vector<double> s(groups.size());
      double total = 0;
      for (size_t g = 0; g < s.size(); ++g) {
        for (int j = 0; j < kDim; ++j) {
          double mean = 0, most = -1e300;
          for (int u = 0; u < 64; ++u) {
            const double product =
                double{units[g * 64 + u][layer * kRow + h * kDim + j]} * q[h * kDim + j];
            mean += product / 64;
            most = std::max(most, product);
          }
          s[g] += (mean + most) / 2;
        }
        total += std::exp(s[g] / std::sqrt(kDim));
      }
      for (size_t g = 0; g < s.size(); ++g) votes[g] += std::exp(s[g] / std::sqrt(kDim)) / total;
    }
    return votes;
  }
  // Whether `chosen` are the best of `among`, but for what float32 cannot tell apart.
  void expect_best(int layer, const std::vector<float>& q, const std::vector<int64_t>& among,
                   const std::vector<int64_t>& chosen) const {
    const auto r = relevance(layer, q, among);
    std::vector<double> sorted(r);
    std::sort(sorted.rbegin(), sorted.rend());
    ASSERT_EQ(static_cast<int>(chosen.size()), config.select);
    EXPECT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
    for (int64_t u : chosen) {
      const auto at = std::find(among.begin(), among.end(), u);
      ASSERT_NE(at, among.end()) << u;
      EXPECT_GE(r[at - among.begin()], sorted[config.select - 1] - 1e-5);
    }
  }
  std::vector<int64_t> range(int64_t first, int64_t end) const {
    std::vector<int64_t> all(end - first);
    std::iota(all.begin(), all.end(), first);
    return all;
  }
};

TEST_F(PolicyTest, ProbingAllGroupsIsTheScanOfEveryUnit) {
  for (KvType type : {KvType::F32, KvType::F16})
    for (HeadVote vote : {HeadVote::Sum, HeadVote::Softmax})
      for (int32_t sinks : {0, 128})
        for (int64_t n : {17, 64, 65, 700, 64 * 20}) {
          config.vote = vote;
          config.sinks = sinks;
          config.probe = 20;
          fill(n, type, n);
          for (int layer = 0; layer < kLayers; ++layer) {
            const auto q = query(n + layer);
            expect_best(layer, q, range(sinks == config.unit ? 1 : 0, n), select(layer, q));
          }
        }
  EXPECT_EQ(most_at_once, kGroupsAtOnce);
}

TEST_F(PolicyTest, UnitsOfTheProbedGroupsAndTheOpenOneAreCompared) {
  config.probe = 3;
  for (KvType type : {KvType::F32, KvType::F16}) {
    fill(64 * 30 + 9, type, 3);
    int compared = 0;
    for (uint64_t seed = 0; seed < 12; ++seed) {
      const auto q = query(seed);
      fetched = 0;
      const auto chosen = select(1, q);
      EXPECT_EQ(fetched, 3);
      const std::vector<double> votes = group_votes(1, q);
      std::vector<int64_t> order = range(0, 30), among;
      std::sort(order.begin(), order.end(), [&](auto a, auto b) { return votes[a] > votes[b]; });
      // Halves round, so that groups this close may change places.
      if (votes[order[2]] - votes[order[3]] < 5e-3) continue;
      ++compared;
      for (int i = 0; i < 3; ++i)
        for (int u = 0; u < 64; ++u) among.push_back(order[i] * 64 + u);
      for (int u = 0; u < 9; ++u) among.push_back(30 * 64 + u);
      expect_best(1, q, among, chosen);
    }
    EXPECT_GE(compared, 6);
  }
}

// One unit among 3,200 that is unlike all others: what is largest in its group gives it away.
TEST_F(PolicyTest, FindsAUnitThatItsGroupsMeanHides) {
  config.probe = 4;
  const PageLayout layout{kLayers, {kHeads, 2, kDim}, config.unit, KvType::F16, true};
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal;
  const auto q = query(6);
  for (int64_t hidden : {5, 1000, 3199}) {
    index = std::make_unique<UnitIndex>(layout);
    groups.clear();
    for (int64_t u = 0; u < 3200; ++u) {
      std::vector<float> unit(kLayers * kRow);
      for (float& x : unit) x = normal(random);
      for (int j = 0; u == hidden && j < kRow; ++j) unit[j] += 3 * q[j];
      std::vector<std::byte> stored(unit.size() * 2);
      kernels::to_kv(KvType::F16, unit.data(), static_cast<int64_t>(unit.size()), stored.data());
      if (auto group = index->add(stored)) groups.push_back(group);
    }
    const auto chosen = select(0, q);
    EXPECT_TRUE(std::binary_search(chosen.begin(), chosen.end(), hidden)) << hidden;
  }
}

}  // namespace
}  // namespace ringtide::model

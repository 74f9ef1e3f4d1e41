#include "model/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "model/random.h"

namespace ringtide::model {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TokenId pick(std::vector<float> logits, const SamplingParams& params, int64_t position = 0,
             const std::vector<TokenId>& recent = {}) {
  return sample(logits, recent, position, params);
}

SamplingParams warm(float temperature = 1.0f) {
  SamplingParams params;
  params.temperature = temperature;
  params.seed = 7;
  return params;
}

std::vector<int> counts(const std::vector<float>& logits, const SamplingParams& params, int draws,
                        const std::vector<TokenId>& recent = {}) {
  std::vector<int> seen(logits.size());
  for (int i = 0; i < draws; ++i) ++seen[static_cast<size_t>(pick(logits, params, i, recent))];
  return seen;
}

std::set<TokenId> support(const std::vector<float>& logits, const SamplingParams& params) {
  const auto seen = counts(logits, params, 3000);
  std::set<TokenId> out;
  for (size_t i = 0; i < seen.size(); ++i) {
    if (seen[i] > 0) out.insert(static_cast<TokenId>(i));
  }
  return out;
}

// The definition in the header, sorted in full and in long double.
std::vector<double> reference(std::vector<float> logits, const SamplingParams& p,
                              const std::vector<TokenId>& recent) {
  const auto from = recent.end() - std::min<ptrdiff_t>(p.penalty_window, std::ssize(recent));
  for (const TokenId id : std::set<TokenId>(from, recent.end())) {
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / p.repetition_penalty : logit * p.repetition_penalty;
  }
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (p.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(p.top_k)));
  std::vector<long double> weight;
  for (const size_t id : order) {
    weight.push_back(
        std::exp((static_cast<long double>(logits[id]) - logits[order[0]]) / p.temperature));
  }
  size_t kept = 0;
  while (kept < weight.size() && weight[kept] >= p.min_p) ++kept;
  weight.resize(kept);
  const long double total = std::accumulate(weight.begin(), weight.end(), 0.0L);
  long double held = 0;
  if (p.top_p < 1.0f) {
    for (kept = 0; kept < weight.size() && held < p.top_p * total;) held += weight[kept++];
    weight.resize(kept);
  }
  const long double left = std::accumulate(weight.begin(), weight.end(), 0.0L);
  std::vector<double> probabilities(logits.size());
  for (size_t i = 0; i < weight.size(); ++i)
    probabilities[order[i]] = static_cast<double>(weight[i] / left);
  return probabilities;
}

TEST(Sampler, GreedyTakesTheHighestAndOfEqualsTheFirst) {
  EXPECT_EQ(pick({1, 3, 2}, {}), 1);
  EXPECT_EQ(pick({1, 3, 3, 3}, {}), 1);
  EXPECT_EQ(pick({-4}, {}), 0);
  EXPECT_EQ(pick({0.0f, -0.0f}, {}), 0);
  EXPECT_EQ(pick({1, 3, 2}, warm(-1.0f)), 1);
  EXPECT_EQ(pick({1, 3, 2}, warm(kNan)), 1);
}

TEST(Sampler, TopKKeepsTheHighest) {
  SamplingParams params = warm(5.0f);
  params.top_k = 2;
  EXPECT_EQ(support({1, 3, 2, 0}, params), (std::set<TokenId>{1, 2}));
  EXPECT_EQ(support({2, 2, 2, 2}, params), (std::set<TokenId>{0, 1})) << "ties at the edge";
  params.top_k = 1;
  EXPECT_EQ(support({1, 3, 2, 0}, params), std::set<TokenId>{1});
  params.top_k = 9;
  EXPECT_EQ(support({1, 3, 2, 0}, params).size(), 4u);
  params.top_k = -1;
  EXPECT_EQ(support({1, 3, 2, 0}, params).size(), 4u);
}

TEST(Sampler, MinPIsAShareOfTheHighest) {
  SamplingParams params = warm();
  params.min_p = 0.25f;
  const auto log = [](double p) { return static_cast<float>(std::log(p)); };
  EXPECT_EQ(support({log(0.5), log(0.3), log(0.13), log(0.07)}, params),
            (std::set<TokenId>{0, 1, 2}));
  params.min_p = 5.0f;
  EXPECT_EQ(support({1, 1, 0.5}, params), (std::set<TokenId>{0, 1}));
}

TEST(Sampler, TopPKeepsTheFewestThatHoldIt) {
  SamplingParams params = warm();
  const auto log = [](double p) { return static_cast<float>(std::log(p)); };
  const std::vector<float> logits = {log(0.1), log(0.5), log(0.15), log(0.25)};
  params.top_p = 0.7f;
  EXPECT_EQ(support(logits, params), (std::set<TokenId>{1, 3}));
  params.top_p = 0.8f;
  EXPECT_EQ(support(logits, params), (std::set<TokenId>{1, 2, 3}));
  params.top_p = 0.0f;
  EXPECT_EQ(support(logits, params), std::set<TokenId>{1});
  params.top_p = 0.5f;
  EXPECT_EQ(support({0, 0, 0, 0}, params), (std::set<TokenId>{0, 1})) << "ties go to the lower id";
}

TEST(Sampler, PenaltyCountsEachRecentTokenOnce) {
  SamplingParams params;
  params.repetition_penalty = 2.0f;
  EXPECT_EQ(pick({3, 4, 1}, params, 0, {1}), 0);
  EXPECT_EQ(pick({1.5f, 4, 1}, params, 0, {1, 1, 1}), 1) << "4 / 2, not 4 / 8";
  EXPECT_EQ(pick({-3, -2, -9}, params, 0, {1}), 0) << "negative ones are multiplied";
  params.penalty_window = 2;
  EXPECT_EQ(pick({3, 4, 1}, params, 0, {1, 2, 2}), 1) << "outside the window";
  EXPECT_EQ(pick({3, 4, 1}, params, 0, {-1, 1000000}), 1);
  for (const float off : {0.0f, -1.0f, kNan, kInf}) {
    params.repetition_penalty = off;
    EXPECT_EQ(pick({3, 4, 1}, params, 0, {1}), 1);
  }
}

TEST(Sampler, DrawsFollowTheDefinition) {
  std::mt19937_64 random(10);
  std::normal_distribution<float> normal;
  constexpr int kDraws = 100000;
  for (int round = 0; round < 6; ++round) {
    std::vector<float> logits(20 + 300 * (round % 2));
    for (float& logit : logits) logit = 2.0f * normal(random);
    SamplingParams params = warm(0.5f + 0.3f * static_cast<float>(round));
    params.seed = random();
    if (round >= 1) params.top_k = 15;
    if (round >= 2) params.top_p = 0.9f;
    if (round >= 3) params.min_p = 0.02f;
    std::vector<TokenId> recent;
    if (round >= 4) {
      params.repetition_penalty = 1.3f;
      params.penalty_window = 5;
      recent = {1, 2, 3, 3, 4, 5, 6};
    }
    const auto expected = reference(logits, params, recent);
    const auto seen = counts(logits, params, kDraws, recent);
    double chi_square = 0.0, rare_expected = 0.0, rare_seen = 0.0;
    int cells = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      const double mean = expected[i] * kDraws;
      if (mean == 0.0) {
        EXPECT_EQ(seen[i], 0) << "token " << i << " was filtered, round " << round;
      }
      if (mean < 10.0) {
        rare_expected += mean;
        rare_seen += seen[i];
        continue;
      }
      chi_square += (seen[i] - mean) * (seen[i] - mean) / mean;
      ++cells;
    }
    if (rare_expected > 0) chi_square += std::pow(rare_seen - rare_expected, 2) / rare_expected;
    // Mean: the number of cells; 5 standard deviations above it.
    EXPECT_LT(chi_square, cells + 5.0 * std::sqrt(2.0 * cells)) << "round " << round;
  }
}

TEST(Sampler, ALargeVocabularyIsFilteredAsASmallOne) {
  std::mt19937_64 random(11);
  std::normal_distribution<float> normal;
  std::vector<float> logits(49152);
  for (float& logit : logits) logit = 3.0f * normal(random);
  SamplingParams params = warm();
  params.top_p = 0.5f;
  const auto expected = reference(logits, params, {});
  for (int i = 0; i < 300; ++i) {
    EXPECT_GT(expected[static_cast<size_t>(pick(logits, params, i))], 0.0);
  }
}

TEST(Sampler, IsAFunctionOfSeedAndPosition) {
  const std::vector<float> logits(1000, 0.0f);
  SamplingParams params = warm();
  std::set<TokenId> by_position, by_seed;
  for (int i = 0; i < 50; ++i) {
    params.seed = 7;
    EXPECT_EQ(pick(logits, params, i), pick(logits, params, i));
    by_position.insert(pick(logits, params, i));
    params.seed = static_cast<uint64_t>(i);
    by_seed.insert(pick(logits, params, 3));
  }
  EXPECT_GT(by_position.size(), 40u);
  EXPECT_GT(by_seed.size(), 40u);
}

TEST(Sampler, StrangeLogitsHaveDefinedAnswers) {
  for (const float temperature : {0.0f, 1.0f, 1e-30f, 1e30f, kInf}) {
    const SamplingParams params = warm(temperature);
    EXPECT_EQ(pick({kNan, kNan}, params), 0);
    EXPECT_EQ(pick({-kInf, -kInf}, params), 0);
    EXPECT_EQ(pick({kNan, -kInf, -5, kNan}, params), 2);
    EXPECT_EQ(pick({1, kInf, 2}, params), 1);
    EXPECT_EQ(pick({-3e38f, kNan, -kInf}, params), 0);
  }
  EXPECT_EQ(support({kInf, 1, kInf, kNan}, warm()), (std::set<TokenId>{0, 2}));
  SamplingParams params = warm();
  params.top_p = params.min_p = kNan;
  EXPECT_EQ(support({1, 1}, params).size(), 2u);
}

// Known answers published with Random123.
TEST(Random, IsPhilox) {
  using ::testing::ElementsAre;
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_THAT(philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(
      philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(Random, IsUniform) {
  constexpr int kDraws = 100000, kCells = 100;
  std::vector<int> cells(kCells);
  for (int i = 0; i < kDraws; ++i) {
    const double u = uniform(12, static_cast<uint64_t>(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++cells[static_cast<size_t>(u * kCells)];
  }
  double chi_square = 0.0;
  constexpr double kMean = static_cast<double>(kDraws) / kCells;
  for (const int cell : cells) chi_square += (cell - kMean) * (cell - kMean) / kMean;
  EXPECT_LT(chi_square, kCells + 5.0 * std::sqrt(2.0 * kCells));
}

}  // namespace
}  // namespace ringtide::model

#include "model/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "model/random.h"

namespace ringtide::model {
namespace {

struct Candidate {
  float logit;
  TokenId id;
  double weight;  // exp((logit - highest) / temperature)
};

// A total order: likelier first, then the lower id.
bool before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

void penalise(std::span<float> logits, std::span<const TokenId> recent,
              const SamplingParams& params, std::vector<TokenId>& distinct) {
  const float penalty = params.repetition_penalty;
  if (penalty == 1.0f || !(penalty > 0.0f) || std::isinf(penalty)) return;
  const size_t window = static_cast<size_t>(std::max(params.penalty_window, 0));
  recent = recent.last(std::min(window, recent.size()));
  distinct.assign(recent.begin(), recent.end());
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (const TokenId id : distinct) {
    if (id < 0 || static_cast<size_t>(id) >= logits.size()) continue;
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0.0f ? logit / penalty : logit * penalty;
  }
}

void keep_top_k(std::vector<Candidate>& candidates, int32_t k) {
  if (k <= 0 || static_cast<size_t>(k) >= candidates.size()) return;
  std::nth_element(candidates.begin(), candidates.begin() + (k - 1), candidates.end(), before);
  candidates.resize(static_cast<size_t>(k));
}

void keep_min_p(std::vector<Candidate>& candidates, float min_p) {
  if (!(min_p > 0.0f)) return;
  const double least = std::min(static_cast<double>(min_p), 1.0);  // the highest weight is 1
  std::erase_if(candidates, [&](const Candidate& c) { return c.weight < least; });
}

// Bisects by selection: linear in the vocabulary, where sorting is not.
void keep_top_p(std::vector<Candidate>& candidates, float top_p) {
  if (!(top_p < 1.0f)) return;
  const auto mass = [&](size_t from, size_t to) {
    double sum = 0.0;
    for (size_t i = from; i < to; ++i) sum += candidates[i].weight;
    return sum;
  };
  const auto at = [&](size_t i) { return candidates.begin() + static_cast<ptrdiff_t>(i); };
  const double wanted = static_cast<double>(top_p) * mass(0, candidates.size());
  // The likeliest `low` hold `held`, which is less than wanted; the likeliest `high` are enough.
  size_t low = 0, high = candidates.size();
  double held = 0.0;
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    std::nth_element(at(low), at(middle), at(high), before);
    const double more = mass(low, middle);
    if (held + more >= wanted) {
      high = middle;
    } else {
      held += more;
      low = middle;
    }
  }
  candidates.resize(high);
}

}  // namespace

TokenId sample(std::span<float> logits, std::span<const TokenId> recent, int64_t position,
               const SamplingParams& params) {
  // Kept between calls, so that the token path allocates nothing.
  static thread_local std::vector<TokenId> distinct;
  static thread_local std::vector<Candidate> candidates;

  penalise(logits, recent, params, distinct);
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  float highest = kNever;
  TokenId best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > highest) {
      highest = logits[i];
      best = static_cast<TokenId>(i);
    }
  }
  if (!(params.temperature > 0.0f) || highest == kNever) return best;

  candidates.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    // With +inf among them, only the infinite ones have a share.
    if (logits[i] > kNever && (logits[i] == highest || std::isfinite(highest))) {
      candidates.push_back({logits[i], static_cast<TokenId>(i), 0.0});
    }
  }
  keep_top_k(candidates, params.top_k);
  const double temperature = params.temperature;
  for (Candidate& c : candidates) {
    const double below = static_cast<double>(c.logit) - static_cast<double>(highest);
    c.weight = c.logit == highest ? 1.0 : std::exp(below / temperature);
  }
  keep_min_p(candidates, params.min_p);
  keep_top_p(candidates, params.top_p);

  const auto by_id = [](const Candidate& a, const Candidate& b) { return a.id < b.id; };
  if (!std::is_sorted(candidates.begin(), candidates.end(), by_id)) {
    std::sort(candidates.begin(), candidates.end(), by_id);
  }
  double total = 0.0;
  for (const Candidate& c : candidates) total += c.weight;
  double rest = uniform(params.seed, static_cast<uint64_t>(position)) * total;
  TokenId chosen = best;
  for (const Candidate& c : candidates) {
    if (c.weight == 0.0) continue;
    chosen = c.id;
    rest -= c.weight;
    if (rest < 0.0) break;
  }
  return chosen;
}

}  // namespace ringtide::model

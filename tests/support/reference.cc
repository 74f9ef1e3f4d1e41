#include "tests/support/reference.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace ringtide::testing {
namespace {

using Row = std::vector<double>;
using model::HeadVote;
using model::PolicyKind;

Row times(const std::vector<float>& w, const Row& x) {
  Row y(w.size() / x.size(), 0.0);
  for (size_t i = 0; i < y.size(); ++i)
    for (size_t j = 0; j < x.size(); ++j) y[i] += double{w[i * x.size() + j]} * x[j];
  return y;
}

Row normed(const Row& x, const std::vector<float>& weight, double eps) {
  double squares = 0;
  for (double v : x) squares += v * v;
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  Row y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * weight[i];
  return y;
}

Row plus(Row x, const std::vector<float>& bias) {
  for (size_t i = 0; i < bias.size(); ++i) x[i] += bias[i];
  return x;
}

// Every head of x normed by itself; an empty weight: as it is.
Row normed_heads(const Row& x, const std::vector<float>& weight, double eps) {
  if (weight.empty()) return x;
  Row all;
  for (size_t at = 0; at < x.size(); at += weight.size()) {
    const Row head = normed({x.begin() + at, x.begin() + at + weight.size()}, weight, eps);
    all.insert(all.end(), head.begin(), head.end());
  }
  return all;
}

double activated(double x, bool gelu) {
  if (!gelu) return x / (1 + std::exp(-x));
  return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

}  // namespace

Reference::Reference(const SmallModel& model, const model::PolicyConfig& policy)
    : m_(model), policy_(policy), layers_(model.layers.size()) {
  for (size_t l = 0; l < layers_.size(); ++l)
    layers_[l].sliding = !m_.config.sliding.empty() && m_.config.sliding[l];
}

int64_t Reference::sealed(int64_t processed) const {
  int64_t units = 0;
  // A unit is sealed when its last key is out of the next query's window.
  while (processed - ((units + 1) * policy_.unit - 1) >= policy_.window) ++units;
  return units;
}

Row Reference::rotate(const double* x, double position, bool sliding) const {
  const auto& own = m_.config.sliding_inv_freq;
  const auto& frequencies = sliding && !own.empty() ? own : m_.config.rope_inv_freq;
  const int dim = m_.config.head_dim, half = dim / 2;
  Row y(dim);
  for (int j = 0; j < half; ++j) {
    const double a = position * frequencies[j];
    y[j] = x[j] * std::cos(a) - x[j + half] * std::sin(a);
    y[j + half] = x[j] * std::sin(a) + x[j + half] * std::cos(a);
  }
  return y;
}

double Reference::logit(const double* q, double q_at, const double* k, double k_at,
                        bool sliding) const {
  const Row a = rotate(q, q_at, sliding), b = rotate(k, k_at, sliding);
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0) * m_.config.attention_scale;
}

// Takes the `count` of `all` with the highest relevance, ascending, and notes how close it was.
std::vector<int64_t> Reference::best(std::vector<int64_t> all, int64_t count,
                                     const std::map<int64_t, double>& relevance) {
  if (static_cast<int64_t>(all.size()) <= count) return all;
  std::stable_sort(all.begin(), all.end(),
                   [&](int64_t a, int64_t b) { return relevance.at(a) > relevance.at(b); });
  closest_choice_ =
      std::min(closest_choice_, relevance.at(all[count - 1]) - relevance.at(all[count]));
  all.resize(count);
  std::sort(all.begin(), all.end());
  return all;
}

// Sum of the heads' votes on each candidate, whose score is score(head, candidate).
std::map<int64_t, double> Reference::votes(const std::vector<int64_t>& all,
                                           const std::function<double(int, int64_t)>& score) const {
  std::map<int64_t, double> relevance;
  for (int h = 0; h < m_.config.heads; ++h) {
    std::map<int64_t, double> s;
    double total = 0;
    for (int64_t u : all) {
      s[u] = score(h, u);
      total += std::exp(s[u] * m_.config.attention_scale);
    }
    for (int64_t u : all)
      relevance[u] += policy_.vote == HeadVote::Sum
                          ? s[u]
                          : std::exp(s[u] * m_.config.attention_scale) / total;
  }
  return relevance;
}

std::vector<int64_t> Reference::choose(const Layer& layer, int64_t begin, int64_t end) {
  if (layer.sliding) return {};
  const int64_t units = sealed(begin);
  std::vector<int64_t> all(units);
  std::iota(all.begin(), all.end(), 0);
  if (policy_.kind == PolicyKind::Exact) return all;
  if (policy_.kind == PolicyKind::Streaming) return {};
  if (policy_.sinks == policy_.unit && !all.empty()) all.erase(all.begin());
  if (static_cast<int>(all.size()) <= policy_.select) return all;

  const int heads = m_.config.heads, dim = m_.config.head_dim;
  std::vector<Row> query;
  for (int h = 0; h < heads; ++h) {
    Row mean(dim, 0.0);
    for (int64_t p = begin; p < end; ++p)
      for (int j = 0; j < dim; ++j)
        mean[j] += layer.q[p][h * dim + j] / static_cast<double>(end - begin);
    query.push_back(rotate(mean.data(), policy_.window - 1, false));
  }
  const auto product = [&](int h, int64_t u) {
    return std::inner_product(query[h].begin(), query[h].end(), layer.units[u][h].begin(), 0.0);
  };

  // Groups of 64 units; of too many full ones, those where a high score is likely.
  constexpr int64_t kGroup = 64;
  const int64_t full = units / kGroup;
  std::vector<int64_t> groups(full);
  std::iota(groups.begin(), groups.end(), 0);
  if (full > policy_.probe) {
    const auto likely = [&](int h, int64_t g) {
      double score = 0;
      for (int j = 0; j < dim; ++j) {
        double mean = 0, most = -1e300;
        for (int64_t u = g * kGroup; u < (g + 1) * kGroup; ++u) {
          const double product = query[h][j] * layer.units[u][h][j];
          mean += product / kGroup;
          most = std::max(most, product);
        }
        score += (mean + most) / 2;
      }
      return score;
    };
    groups = best(groups, policy_.probe, votes(groups, likely));
  }
  std::erase_if(all, [&](int64_t u) {
    return u / kGroup < full && !std::binary_search(groups.begin(), groups.end(), u / kGroup);
  });
  return best(all, policy_.select, votes(all, product));
}

void Reference::attend(Layer& layer, int64_t p, const std::vector<int64_t>& units, double* out) {
  const int heads = m_.config.heads, group = heads / m_.config.kv_heads, dim = m_.config.head_dim;
  const int64_t window = policy_.window, unit = policy_.unit;
  const bool truth = policy_.kind == PolicyKind::Exact || policy_.true_positions;
  const int64_t in_units = sealed(processed_) * unit;

  struct Seen {
    int64_t key;
    double q_at, k_at;
  };
  std::vector<Seen> seen;
  std::vector<int> times_seen(p + 1, 0);
  for (int64_t j = 0; j <= p; ++j) {
    auto see = [&](double q_at, double k_at) {
      seen.push_back({j, q_at, k_at});
      if (++times_seen[j] > 1) seen_twice_ = true;
    };
    if (layer.sliding) {
      if (p - j < m_.config.sliding_window) see(p, j);
      continue;
    }
    const double far_q = truth ? p
                         : policy_.kind == PolicyKind::Streaming
                             ? std::min<int64_t>(p, policy_.sinks + window - 1)
                             : window - 1;
    const double far_k = truth || policy_.kind == PolicyKind::Streaming ? j : 0;
    if (p - j < window) {
      see(p, j);
      continue;
    }
    const bool chosen = std::find(units.begin(), units.end(), j / unit) != units.end();
    const bool sink = j < policy_.sinks && policy_.kind != PolicyKind::Exact;
    const bool overflow = j >= in_units && policy_.kind != PolicyKind::Streaming;
    if (sink || overflow || (j < in_units && chosen)) see(far_q, far_k);
  }
  for (int h = 0; h < heads; ++h) {
    const int g = h / group;
    double total = 0, top = -1e300;
    std::vector<double> w;
    for (const Seen& s : seen) {
      w.push_back(
          logit(&layer.q[p][h * dim], s.q_at, &layer.k[s.key][g * dim], s.k_at, layer.sliding));
      top = std::max(top, w.back());
    }
    for (double& x : w) total += x = std::exp(x - top);
    for (int j = 0; j < dim; ++j) {
      double o = 0;
      for (size_t i = 0; i < seen.size(); ++i)
        o += w[i] / total * layer.v[seen[i].key][g * dim + j];
      out[h * dim + j] = o;
    }
  }
}

void Reference::represent(Layer& layer, int64_t unit) {
  const int heads = m_.config.heads, group = heads / m_.config.kv_heads, dim = m_.config.head_dim;
  const int64_t begin = unit == 0 ? policy_.sinks : unit * policy_.unit;
  const int64_t end = (unit + 1) * policy_.unit;
  std::vector<Row> vectors;
  for (int h = 0; h < heads; ++h) {
    std::vector<std::pair<double, int64_t>> score;
    for (int64_t j = begin; j < end; ++j) {
      double s = 0;
      for (int64_t p = j; p < j + policy_.window; ++p)
        s += logit(&layer.q[p][h * dim], p, &layer.k[j][h / group * dim], j, false);
      score.push_back({-s, j});
    }
    std::sort(score.begin(), score.end());
    const size_t take = std::min<size_t>(policy_.representatives, score.size());
    Row mean(dim, 0.0);
    for (size_t i = 0; i < take; ++i)
      for (int j = 0; j < dim; ++j)
        mean[j] += layer.k[score[i].second][h / group * dim + j] / static_cast<double>(take);
    vectors.push_back(mean);
  }
  layer.units.push_back(vectors);
}

void Reference::run(std::span<const model::TokenId> block) {
  const auto& c = m_.config;
  const bool gelu = c.activation == model::Activation::GeluTanh;
  const int64_t begin = processed_, end = begin + static_cast<int64_t>(block.size());
  std::vector<Row> x;
  for (model::TokenId t : block)
    x.emplace_back(m_.embedding.begin() + t * c.hidden, m_.embedding.begin() + (t + 1) * c.hidden);
  for (Row& row : x)
    for (double& v : row) v *= c.embedding_scale;
  for (size_t l = 0; l < layers_.size(); ++l) {
    const auto& w = m_.layers[l];
    Layer& layer = layers_[l];
    for (const Row& row : x) {
      const Row h = normed(row, w.attention_norm, c.norm_eps);
      layer.q.push_back(normed_heads(plus(times(w.wq, h), w.q_bias), w.q_norm, c.norm_eps));
      layer.k.push_back(normed_heads(plus(times(w.wk, h), w.k_bias), w.k_norm, c.norm_eps));
      layer.v.push_back(plus(times(w.wv, h), w.v_bias));
    }
    const std::vector<int64_t> units = choose(layer, begin, end);
    for (int64_t p = begin; p < end; ++p) {
      Row o(c.heads * c.head_dim);
      attend(layer, p, units, o.data());
      Row& row = x[p - begin];
      const Row add = normed_heads(times(w.wo, o), w.post_attention_norm, c.norm_eps);
      for (int j = 0; j < c.hidden; ++j) row[j] += add[j];
      const Row h = normed(row, w.ffn_norm, c.norm_eps);
      Row gate = times(w.gate, h);
      const Row up = times(w.up, h);
      for (int j = 0; j < c.ffn; ++j) gate[j] = activated(gate[j], gelu) * up[j];
      const Row down = normed_heads(times(w.down, gate), w.post_ffn_norm, c.norm_eps);
      for (int j = 0; j < c.hidden; ++j) row[j] += down[j];
    }
    if (policy_.kind == PolicyKind::InfLlm && !layer.sliding)
      for (int64_t u = sealed(begin); u < sealed(end); ++u) represent(layer, u);
  }
  processed_ = end;
  logits_ = times(m_.embedding, normed(x.back(), m_.output_norm, c.norm_eps));
}

}  // namespace ringtide::testing

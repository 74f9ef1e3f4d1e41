#include "deploy/bench_engine.h"

#include <chrono>
#include <random>
#include <stdexcept>

#include "deploy/bench_device.h"

namespace ringtide::deploy {

using model::PolicyConfig;
using model::PolicyKind;
using model::TokenId;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string thousands(int64_t tokens) {
  if (tokens % (1 << 20) == 0) return std::to_string(tokens >> 20) + "M";
  return tokens % 1024 == 0 ? std::to_string(tokens >> 10) + "K" : std::to_string(tokens);
}

PolicyConfig exact(int32_t window) {
  PolicyConfig policy;
  policy.kind = PolicyKind::Exact;
  policy.window = window;
  return policy;
}

double layer_weights(const model::ModelConfig& c) {
  const double q = double{1} * c.heads * c.head_dim, kv = double{1} * c.kv_heads * c.head_dim;
  return c.hidden * (2 * q + 2 * kv + 3.0 * c.ffn);
}

}  // namespace

double EngineBench::prefill_seconds(const PolicyConfig& policy, int64_t tokens) {
  std::mt19937 random(1);
  std::vector<TokenId> prompt(tokens);
  for (TokenId& t : prompt) t = static_cast<TokenId>(random() % model_.config.vocabulary);
  const std::vector<int32_t> lengths(tokens / policy.block, policy.block);
  engine_.open(1, policy);
  const double begin = now();
  engine_.prefill(1, prompt, lengths);
  engine_.sample(1, {});
  const double seconds = now() - begin;
  engine_.close(1);
  return seconds;
}

Figure EngineBench::prefill_rate(int64_t tokens) {
  std::vector<double> rates;
  prefill_seconds(exact(512), std::min<int64_t>(tokens, 4096));
  for (int i = 0; i < (tokens > 65536 ? 1 : 3); ++i)
    rates.push_back(static_cast<double>(tokens) / prefill_seconds(exact(512), tokens));
  return summarise("prefill, " + thousands(tokens) + " tokens", "tokens/s", rates);
}

void EngineBench::prefill(int64_t tokens) {
  Figure figure = prefill_rate(tokens);
  const model::ModelConfig& c = model_.config;
  const double n = static_cast<double>(tokens), row = double{1} * c.heads * c.head_dim;
  const double products = 2 * n * layer_weights(c) / (1e12 * figures_[kProduct]);
  const double attention = 2 * n * n * row / (1e12 * figures_[attention_name(tokens)]);
  figure.ceiling = n / (c.layers * (products + attention));
  figure.against = "products and attention at their measured rates";
  figures_.add(figure);
}

void EngineBench::spill(int64_t tokens) {
  std::vector<double> costs;
  for (int i = 0; i < 3; ++i) {
    if (!engine_.store_pages(false)) return;
    const double without = prefill_seconds(exact(512), tokens);
    engine_.store_pages(true);
    costs.push_back(100 * (prefill_seconds(exact(512), tokens) / without - 1));
  }
  figures_.add(summarise("cost of spilling while prefilling " + thousands(tokens), "%", costs));
}

EngineBench::Decoding EngineBench::decode_steps(int batch, const PolicyConfig& policy,
                                                int64_t tokens, bool one_token) {
  constexpr int kSteps = 32, kRuns = 5;
  Decoding result;
  const int64_t before = engine_.stats().gpu_used;
  std::vector<model::DecodeRow> rows;
  std::vector<model::SampleRow> asked;
  for (int i = 0; i < batch; ++i) {
    const auto id = static_cast<model::ContextId>(i + 1);
    if (!engine_.imagine(id, policy, tokens)) {
      engine_.open(id, policy);
      const std::vector<TokenId> prompt(tokens);
      engine_.prefill(id, prompt, std::vector<int32_t>(tokens / policy.block, policy.block));
    }
    rows.push_back({id, 0});
    asked.push_back({id, {}});
  }
  result.gpu_bytes = engine_.stats().gpu_used - before;
  std::vector<TokenId> sampled(batch);
  int64_t chosen = 0, awaited = 0;
  for (int run = 0; run <= kRuns; ++run) {
    if (run == 1) {
      chosen = engine_.stats(1).units_selected;
      awaited = engine_.units_awaited(1);
    }
    const double begin = now();
    for (int step = 0; step < kSteps; ++step) {
      engine_.decode(rows);
      engine_.sample(asked, sampled);
      for (int i = 0; i < batch && !one_token; ++i) rows[i].token = sampled[i];
    }
    if (run > 0) result.seconds.push_back((now() - begin) / kSteps);
  }
  chosen = engine_.stats(1).units_selected - chosen;
  awaited = engine_.units_awaited(1) - awaited;
  if (chosen > 0) result.awaited = static_cast<double>(awaited) / static_cast<double>(chosen);
  for (const auto& row : rows) engine_.close(row.context);
  return result;
}

Figure EngineBench::decode_rate(int batch, int64_t tokens) {
  std::vector<double> rates = decode_steps(batch, exact(512), tokens).seconds;
  for (double& r : rates) r = batch / r;
  return summarise(
      "decode, batch " + std::to_string(batch) + ", " + thousands(tokens) + " tokens each",
      "tokens/s", rates);
}

void EngineBench::decode(int batch, int64_t tokens) {
  Figure figure = decode_rate(batch, tokens);
  const model::ModelConfig& c = model_.config;
  const double weights = 2 * (c.layers * layer_weights(c) + double{1} * c.vocabulary * c.hidden);
  const double kv = 4.0 * static_cast<double>(tokens) * c.layers * c.kv_heads * c.head_dim;
  figure.ceiling = batch * 1e12 * figures_[kCopy] / (weights + batch * kv);
  figure.against = "weights, keys and values at the copy's rate";
  figures_.add(figure);
}

Figure EngineBench::append_time(int64_t tokens, int64_t past) {
  PolicyConfig policy = exact(8192);
  policy.block = 8192;
  const std::vector<TokenId> text(tokens);
  std::vector<double> ms;
  for (int i = 0; i < 5; ++i) {
    if (!engine_.imagine(1, policy, past)) throw std::logic_error("no past to append to");
    const double begin = now();
    engine_.prefill(1, text);
    engine_.sample(1, {});
    if (i > 0) ms.push_back(1e3 * (now() - begin));
    engine_.close(1);
  }
  Figure figure = summarise(thousands(tokens) + " tokens after " + thousands(past), "ms", ms);
  figure.less_is_better = true;
  return figure;
}

void EngineBench::add_lookups(const std::string& what, const Decoding& run, double first,
                              const std::string& against) {
  std::vector<double> ms = run.seconds;
  for (double& s : ms) s *= 1e3;
  Figure figure = summarise(what, "ms a token", ms);
  figure.less_is_better = true;
  figure.ceiling = first;
  figure.against = against;
  figures_.add(figure);
  figures_.add(summarise(what + ": awaited", "% of chosen units", {100 * run.awaited}));
}

void EngineBench::retrieve(const std::vector<int64_t>& lengths) {
  const PolicyConfig policy;
  double first = 0;
  const std::string against = lengths.empty() ? "" : "at " + thousands(lengths[0]);
  for (const int64_t tokens : lengths) {
    const std::string what = "infllm decode, " + thousands(tokens) + " tokens";
    const Decoding run = decode_steps(1, policy, tokens);
    add_lookups(what, run, first, against);
    if (first == 0) first = figures_[what];
    if (tokens == lengths.back())
      add_lookups("the same, one token over and over", decode_steps(1, policy, tokens, true), first,
                  against);
    figures_.add(summarise("infllm GPU memory, " + thousands(tokens) + " tokens", "MiB",
                           {static_cast<double>(run.gpu_bytes) / (1 << 20)}));
  }
}

}  // namespace ringtide::deploy

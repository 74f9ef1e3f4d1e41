#include "model/engine_speed.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <random>

#include "kernels/threads.h"

namespace ringtide::model {
namespace {

double seconds(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

class Text {
 public:
  explicit Text(int64_t vocabulary) : vocabulary_(vocabulary) {}
  TokenId next() { return static_cast<TokenId>(random_() % vocabulary_); }
  std::vector<TokenId> block(int64_t n) {
    std::vector<TokenId> tokens(n);
    for (TokenId& t : tokens) t = next();
    return tokens;
  }

 private:
  int64_t vocabulary_;
  std::minstd_rand random_{1};
};

// Opens a context and reads `tokens` into it; returns tokens a second of the last block.
double read(Engine& engine, const SpeedPlan& plan, ContextId id, int64_t tokens, Text& text) {
  engine.open(id, plan.policy);
  double last = 0;
  for (int64_t at = 0; at < tokens; at += plan.policy.block) {
    const int64_t n = std::min<int64_t>(plan.policy.block, tokens - at);
    const std::vector<TokenId> block = text.block(n);
    const double start = plan.clock();
    engine.prefill(id, block);
    last = static_cast<double>(n) / (plan.clock() - start);
  }
  return last;
}

}  // namespace

double wall_seconds() { return seconds(CLOCK_MONOTONIC); }
double processor_seconds() { return seconds(CLOCK_PROCESS_CPUTIME_ID); }

Spread spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return {(values[(n - 1) / 2] + values[n / 2]) / 2, values.front(), values.back()};
}

Spread prompt_speed(Engine& engine, const SpeedPlan& plan, int64_t tokens) {
  Text text(plan.vocabulary);
  std::vector<double> speeds;
  for (int i = 0; i <= plan.repeats; ++i) {
    const int64_t n = i == 0 ? std::min<int64_t>(tokens, plan.policy.block) : tokens;  // to warm up
    const double start = plan.clock();
    read(engine, plan, 1, n, text);
    engine.logits(1);
    if (i > 0) speeds.push_back(static_cast<double>(tokens) / (plan.clock() - start));
    engine.close(1);
  }
  return spread(std::move(speeds));
}

GenerationSpeed generation_speed(Engine& engine, const SpeedPlan& plan, int64_t context,
                                 int64_t batch) {
  Text text(plan.vocabulary);
  const int64_t tokens = std::max<int64_t>(1, context);
  std::vector<DecodeRow> rows;
  std::vector<double> prompts, last_blocks;
  for (int64_t i = 0; i < batch; ++i) {
    rows.push_back({static_cast<ContextId>(i + 1), 0});
    const double start = plan.clock();
    last_blocks.push_back(read(engine, plan, rows.back().context, tokens, text));
    prompts.push_back(static_cast<double>(tokens) / (plan.clock() - start));
  }
  std::vector<double> speeds;
  for (int i = 0; i <= plan.repeats; ++i) {
    const int64_t steps = i == 0 ? 2 : plan.steps;  // first, only to warm up
    const double start = plan.clock();
    for (int64_t s = 0; s < steps; ++s) {
      for (DecodeRow& row : rows) row.token = text.next();
      engine.decode(rows);
    }
    if (i > 0) speeds.push_back(static_cast<double>(steps * batch) / (plan.clock() - start));
  }
  for (const DecodeRow& row : rows) engine.close(row.context);
  return {spread(std::move(speeds)), spread(std::move(prompts)), spread(std::move(last_blocks))};
}

double copy_speed(int threads, Clock clock) {
  kernels::ThreadPool pool(threads);
  constexpr int64_t kPart = 1 << 20, kParts = 256;
  const std::vector<char> from(kPart * kParts, 1);
  std::vector<char> to(from.size());
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double start = clock();
    pool.parallel_for(kParts, [&](int64_t part, int) {
      std::memcpy(to.data() + part * kPart, from.data() + part * kPart, kPart);
    });
    best = std::max(best, 2.0 * static_cast<double>(from.size()) / (clock() - start));
  }
  return best;
}

}  // namespace ringtide::model

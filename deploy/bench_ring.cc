#include "deploy/bench_ring.h"

#include <fmt/core.h>

#include <map>

#include "deploy/bench_engine.h"
#include "deploy/bench_store.h"
#include "deploy/device.h"
#include "deploy/failure.h"
#include "kernels/ring/plan.h"
#include "model/gpu_ring.h"

namespace ringtide::deploy {

namespace {

// A pass of a long session may take seconds; a GPU that is gone is noticed later than that.
constexpr std::chrono::seconds kDeadline{60};

// Of each length that the engine has room for.
using Rates = std::map<int64_t, Figure>;
Rates measure(const RingBench& b, model::Engine& engine, bool decode) {
  Figures unused([](const Figure&) {});
  EngineBench run(engine, *b.model, unused);
  const auto& c = b.model->config;
  const int64_t token_bytes = int64_t{4} * c.layers * c.kv_heads * c.head_dim;
  Rates rates;
  for (const int64_t tokens : {131072, 262144, 524288}) {
    // A prompt of twice the length takes four times as long; its rate on one GPU is known from
    // this.
    if (tokens > b.longest || (!decode && tokens == 262144)) continue;
    if ((tokens + b.engine.pass_tokens) * token_bytes > engine.stats().gpu_budget) continue;
    rates[tokens] = decode ? run.decode_rate(1, tokens) : run.prefill_rate(tokens);
  }
  return rates;
}

std::unique_ptr<model::Engine> ring(const RingBench& b, model::UnitStore& store,
                                    std::optional<kernels::ring::Mode> only = {},
                                    double exact_share = 1) {
  return model::make_gpu_ring_engine(
      static_cast<int>(b.gpus.size()), [&](int shard) { return open_gpu(b.gpus[shard]); }, b.model,
      b.engine, {.exact_share = exact_share, .deadline = kDeadline, .only = only}, store);
}

// Under `infllm`, of one GPU and of the ring.
void measure_lookups(RingBench b, model::UnitStore& store, Figures& figures) {
  std::vector<int64_t> pasts;
  for (const int64_t tokens : {4096, 131072, 1048576})
    if (tokens <= b.longest) pasts.push_back(tokens);
  b.engine.pass_tokens = model::EngineOptions().pass_tokens;
  const auto measure = [&](model::Engine& engine, const std::string& whose) {
    Figures told([&](Figure figure) {
      figure.what = whose + ": " + figure.what;
      figures.add(figure);
    });
    EngineBench run(engine, *b.model, told);
    if (b.longest >= 32768) told.add(run.reading_rate(32768));
    run.retrieve(pasts);
  };
  measure(*model::make_gpu_engine(open_gpu(b.gpus[0]), b.model, b.engine, store), "one GPU");
  b.engine.pass_tokens *= static_cast<int32_t>(b.gpus.size());
  measure(*ring(b, store, {}, 0), fmt::format("{} GPUs", b.gpus.size()));
}

void measure_appends(const RingBench& b, model::UnitStore& store, Figures& figures) {
  using kernels::ring::Mode;
  struct Way {
    const char* name;
    std::optional<Mode> only;
  };
  for (const Way& way :
       {Way{"keys pass", Mode::PassKv}, {"queries pass", Mode::PassQ}, {"chosen", {}}}) {
    const auto engine = ring(b, store, way.only);
    Figures unused([](const Figure&) {});
    EngineBench run(*engine, *b.model, unused);
    for (const int64_t past : {8192, 65536, 262144}) {
      if (past > b.longest) continue;
      for (const int64_t tokens : {512, 2048, 8192}) {
        Figure figure = run.append_time(tokens, past);
        figure.what = fmt::format("{}: {}", way.name, figure.what);
        figures.add(figure);
      }
    }
  }
}

}  // namespace

void bench_ring(const RingBench& b, Figures& figures) {
  NoStore store;
  struct Part {
    bool wanted, decode;
    Rates one;
  };
  Part parts[] = {{b.decode, true, {}}, {b.prefill, false, {}}};
  if (b.prefill || b.decode) {
    RingBench alone = b;
    alone.engine.pass_tokens = model::EngineOptions().pass_tokens;
    const auto engine = model::make_gpu_engine(open_gpu(b.gpus[0]), b.model, alone.engine, store);
    for (Part& part : parts) {
      if (!part.wanted) continue;
      part.one = measure(alone, *engine, part.decode);
      for (auto& [tokens, figure] : part.one) {
        Figure told = figure;
        told.what = "one GPU: " + told.what;
        figures.add(told);
      }
    }
  }
  if (b.retrieve) measure_lookups(b, store, figures);
  if (b.append && b.gpus.size() == 2) measure_appends(b, store, figures);
  if (!b.prefill && !b.decode) return;
  const auto engine = ring(b, store);
  for (const Part& part : parts) {
    if (!part.wanted) continue;
    for (auto& [tokens, figure] : measure(b, *engine, part.decode)) {
      if (const auto one = part.one.find(tokens); one != part.one.end()) {
        figure.ceiling = b.gpus.size() * one->second.median;
        figure.against = fmt::format("{} times one GPU", b.gpus.size());
      }
      figure.what = fmt::format("{} GPUs: {}", b.gpus.size(), figure.what);
      figures.add(figure);
    }
  }
}

}  // namespace ringtide::deploy

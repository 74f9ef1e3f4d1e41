#include "deploy/bench_processor.h"

#include <fmt/core.h>
#include <sys/resource.h>

#include "deploy/bench_store.h"
#include "kernels/threads.h"
#include "model/cpu_weights.h"

namespace ringtide::deploy {

namespace {

Figure figure(std::string what, const char* unit, const model::Spread& spread, int runs,
              int64_t tokens, int64_t batch) {
  Figure f;
  f.what = std::move(what);
  f.unit = unit;
  f.median = spread.median;
  f.low = spread.low;
  f.high = spread.high;
  f.runs = runs;
  f.tokens = tokens;
  f.batch = batch;
  return f;
}

double mebibytes(double bytes) { return bytes / (1 << 20); }

double peak_memory() {
  rusage used;
  getrusage(RUSAGE_SELF, &used);
  return static_cast<double>(used.ru_maxrss) * 1024;
}

}  // namespace

void bench_processor(const ProcessorBench& bench, Figures& figures) {
  model::SpeedPlan plan = bench.plan;
  const double start = model::wall_seconds();
  std::shared_ptr<const model::CpuWeights> weights;
  {
    kernels::ThreadPool threads(bench.engine.threads);
    weights = model::pack_weights(*bench.model, bench.engine.activations, threads);
  }
  figures.add(summarise("loading", "s", {bench.model_seconds + model::wall_seconds() - start}));
  const auto bytes = static_cast<double>(weights->bytes);
  figures.add(summarise("weights", "MiB", {mebibytes(bytes)}));
  const double copy = model::copy_speed(bench.engine.threads, plan.clock);
  figures.add(summarise("copy in memory, read and written", "GB/s", {copy / 1e9}));

  plan.vocabulary = bench.model->config.vocabulary;
  NoStore units;
  const auto engine = model::make_cpu_engine(bench.model, bench.engine, units, weights);
  for (const int64_t tokens : bench.prompts) {
    figures.add(figure(fmt::format("prefill, {} tokens", tokens), "tokens/s",
                       model::prompt_speed(*engine, plan, tokens), plan.repeats, tokens, 1));
  }
  for (const int64_t context : bench.contexts) {
    for (const int64_t batch : bench.batches) {
      const model::GenerationSpeed speed = model::generation_speed(*engine, plan, context, batch);
      const int runs = static_cast<int>(batch);  // every session reads its context once
      if (context > plan.policy.block) {
        figures.add(figure(fmt::format("prefill before it, {} tokens", context), "tokens/s",
                           speed.prompt, runs, context, 1));
        figures.add(figure(fmt::format("prefill of its last block, {} tokens", context), "tokens/s",
                           speed.last_block, runs, context, 1));
      }
      Figure f = figure(fmt::format("decode, batch {}, {} tokens each", batch, context), "tokens/s",
                        speed.generation, plan.repeats, context, batch);
      f.ceiling = static_cast<double>(batch) * copy / bytes;
      f.against = "weights at the copy's rate";
      figures.add(f);
    }
  }
  figures.add(summarise("most memory of the process", "MiB", {mebibytes(peak_memory())}));
}

}  // namespace ringtide::deploy

// What a ring of CPU shards costs: N shards of one thread each beside one engine of N threads.
//
//   shard_bench MODEL [--shards N] [--policy NAME] [--prompt 512,2048] [--context 0,2048]
//               [--batch 1,8] [--repeats N] [--steps N] [--exchange-bytes N] [--clock wall|cpu]
//
// Both run in this process, by turns; the ring's messages are copies in memory, so this is what the
// work on shards costs, without a network. Prints medians of tokens a second and of their
// quotients.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/threads.h"
#include "model/cpu_weights.h"
#include "model/engine_speed.h"
#include "model/model.h"
#include "tests/support/sharded_engine.h"

using namespace ringtide;

namespace {

std::vector<int64_t> numbers(const std::string& list) {
  std::vector<int64_t> values;
  std::istringstream in(list);
  for (std::string word; std::getline(in, word, ',');) values.push_back(std::stoll(word));
  return values;
}

[[noreturn]] void usage() {
  std::fprintf(stderr, "shard_bench: see the first lines of tests/bench/shard_bench.cc\n");
  std::exit(2);
}

double median(std::vector<double> values) { return model::spread(std::move(values)).median; }

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) usage();
  int shards = 2, repeats = 5;
  std::vector<int64_t> prompts = {512, 2048}, contexts = {0, 2048}, batches = {1, 8};
  model::SpeedPlan plan;
  plan.policy.kind = model::PolicyKind::Exact;
  plan.repeats = 1;
  model::EngineOptions options;
  options.ram_budget = int64_t{2} << 30;
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    if (flag == "--shards") {
      shards = std::stoi(value);
    } else if (flag == "--policy") {
      plan.policy.kind = model::parse_policy(value);
    } else if (flag == "--prompt") {
      prompts = numbers(value);
    } else if (flag == "--context") {
      contexts = numbers(value);
    } else if (flag == "--batch") {
      batches = numbers(value);
    } else if (flag == "--repeats") {
      repeats = std::stoi(value);
    } else if (flag == "--steps") {
      plan.steps = std::stoll(value);
    } else if (flag == "--exchange-bytes") {
      options.exchange_bytes = std::stoll(value);
    } else if (flag == "--clock") {
      plan.clock = value == "cpu" ? model::processor_seconds : model::wall_seconds;
    } else {
      usage();
    }
  }
  const auto loaded = model::Model::load(argv[1]);
  plan.vocabulary = loaded->config.vocabulary;
  std::shared_ptr<const model::CpuWeights> weights;
  {
    kernels::ThreadPool threads(shards);
    weights = model::pack_weights(*loaded, options.activations, threads);
  }
  testing::MemoryUnits lone_units, ring_units;
  options.threads = shards;
  const auto lone = model::make_cpu_engine(loaded, options, lone_units, weights);
  options.threads = 1;
  const auto ring = testing::make_sharded_engine(shards, loaded, options, ring_units, weights);

  std::printf("%s, %d shards of one thread and one engine of %d threads\n",
              loaded->config.name.c_str(), shards, shards);
  std::printf("%-12s %8s %6s %10s %10s %10s\n", "", "tokens", "batch", "engine", "ring",
              "quotient");
  const auto compare = [&](const char* what, int64_t tokens, int64_t batch,
                           const std::function<double(model::Engine&)>& speed) {
    std::vector<double> one, many, quotients;
    for (int i = 0; i < repeats; ++i) {
      one.push_back(speed(*lone));
      many.push_back(speed(*ring));
      quotients.push_back(many.back() / one.back());
    }
    std::printf("%-12s %8lld %6lld %10.1f %10.1f %10.2f\n", what, static_cast<long long>(tokens),
                static_cast<long long>(batch), median(one), median(many), median(quotients));
    std::fflush(stdout);
  };
  for (const int64_t tokens : prompts) {
    compare("prompt", tokens, 1, [&](model::Engine& engine) {
      return model::prompt_speed(engine, plan, tokens).median;
    });
  }
  for (const int64_t context : contexts) {
    for (const int64_t batch : batches) {
      compare("generation", context, batch, [&](model::Engine& engine) {
        return model::generation_speed(engine, plan, context, batch).generation.median;
      });
    }
  }
  return 0;
}

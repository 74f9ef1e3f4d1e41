// Speed of the CPU engine on one model, beside what memory allows.
//
//   engine_bench MODEL [--threads N] [--activations f32|int16|int8] [--kv f16|f32] [--policy NAME]
//                [--prompt 128,512,2048] [--context 0,2048,8192] [--batch 1,8] [--repeats N]
//                [--steps N] [--clock wall|cpu] [--target AVX2] [--json]
//
// Prints median, least and greatest tokens a second. A generated token reads every weight once: the
// last column is the bytes of weights read a second over those that plain copying reads and writes.
// --target keeps the kernels to one of the instruction sets that they are compiled for.
#include <hwy/targets.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <thread>

#include "kernels/threads.h"
#include "model/cpu_weights.h"
#include "model/engine.h"
#include "model/engine_speed.h"
#include "model/model.h"
#include "tests/support/memory_units.h"

using namespace ringtide;

namespace {

struct Arguments {
  std::string model;
  model::EngineOptions engine;
  model::SpeedPlan plan;
  std::vector<int64_t> prompts = {128, 512, 2048}, contexts = {0, 2048, 8192}, batches = {1, 8};
  bool json = false;
};

std::vector<int64_t> numbers(const std::string& list) {
  std::vector<int64_t> values;
  std::istringstream in(list);
  for (std::string word; std::getline(in, word, ',');) values.push_back(std::stoll(word));
  return values;
}

[[noreturn]] void usage() {
  std::fprintf(stderr, "engine_bench: see the first lines of tests/bench/engine_bench.cc\n");
  std::exit(2);
}

model::ActivationType activations(const std::string& name) {
  if (name == "f32") return model::ActivationType::F32;
  if (name == "int16") return model::ActivationType::Int16;
  if (name == "int8") return model::ActivationType::Int8;
  usage();
}

void use_target(const std::string& name) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (name == hwy::TargetName(target)) return hwy::SetSupportedTargetsForTest(target);
  }
  std::fprintf(stderr, "engine_bench: %s is not among this machine's targets\n", name.c_str());
  std::exit(2);
}

Arguments parse(int argc, char** argv) {
  if (argc < 2) usage();
  Arguments a;
  a.model = argv[1];
  a.plan.policy.kind = model::PolicyKind::Exact;
  for (int i = 2; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--json") {
      a.json = true;
      continue;
    }
    if (i + 1 == argc) usage();
    const std::string value = argv[++i];
    if (flag == "--threads") {
      a.engine.threads = std::stoi(value);
    } else if (flag == "--activations") {
      a.engine.activations = activations(value);
    } else if (flag == "--kv") {
      a.engine.half_kv = value != "f32";
    } else if (flag == "--policy") {
      a.plan.policy.kind = model::parse_policy(value);
    } else if (flag == "--prompt") {
      a.prompts = numbers(value);
    } else if (flag == "--context") {
      a.contexts = numbers(value);
    } else if (flag == "--batch") {
      a.batches = numbers(value);
    } else if (flag == "--repeats") {
      a.plan.repeats = std::stoi(value);
    } else if (flag == "--steps") {
      a.plan.steps = std::stoll(value);
    } else if (flag == "--target") {
      use_target(value);
    } else if (flag == "--clock") {
      a.plan.clock = value == "cpu" ? model::processor_seconds : model::wall_seconds;
    } else {
      usage();
    }
  }
  if (a.engine.threads <= 0) {
    a.engine.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  }
  return a;
}

void print(const Arguments& a, const char* what, int64_t tokens, int64_t batch,
           const model::Spread& s, double share) {
  if (a.json) {
    std::printf(
        "{\"what\":\"%s\",\"tokens\":%lld,\"batch\":%lld,\"median\":%.2f,\"low\":%.2f,"
        "\"high\":%.2f}\n",
        what, static_cast<long long>(tokens), static_cast<long long>(batch), s.median, s.low,
        s.high);
  } else {
    std::printf("%-12s %8lld %6lld %10.1f %10.1f %10.1f", what, static_cast<long long>(tokens),
                static_cast<long long>(batch), s.median, s.low, s.high);
    if (share > 0) std::printf(" %9.0f %%", 100 * share);
    std::printf("\n");
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments a = parse(argc, argv);
  const double start = model::wall_seconds();
  const auto loaded = model::Model::load(a.model);
  std::shared_ptr<const model::CpuWeights> weights;
  {
    kernels::ThreadPool threads(a.engine.threads);
    weights = model::pack_weights(*loaded, a.engine.activations, threads);
  }
  const double load = model::wall_seconds() - start;
  const double copy = model::copy_speed(a.engine.threads, a.plan.clock);
  a.plan.vocabulary = loaded->config.vocabulary;
  testing::MemoryUnits units;
  const auto engine = model::make_cpu_engine(loaded, a.engine, units, weights);
  if (a.json) {
    std::printf(
        "{\"model\":\"%s\",\"threads\":%d,\"weight_bytes\":%lld,\"load_seconds\":%.3f,"
        "\"copy_bytes_per_second\":%.0f}\n",
        loaded->config.name.c_str(), a.engine.threads, static_cast<long long>(weights->bytes), load,
        copy);
  } else {
    std::printf("%s, %.0f MB of weights, %d threads, loaded in %.2f s; copying %.1f GB/s\n",
                loaded->config.name.c_str(), static_cast<double>(weights->bytes) / 1e6,
                a.engine.threads, load, copy / 1e9);
    std::printf("%-12s %8s %6s %10s %10s %10s %11s\n", "", "tokens", "batch", "median", "least",
                "greatest", "of copying");
  }
  for (const int64_t tokens : a.prompts) {
    print(a, "prompt", tokens, 1, model::prompt_speed(*engine, a.plan, tokens), 0);
  }
  for (const int64_t context : a.contexts) {
    for (const int64_t batch : a.batches) {
      const model::Spread s = model::generation_speed(*engine, a.plan, context, batch);
      const double reads =
          s.median / static_cast<double>(batch) * static_cast<double>(weights->bytes);
      print(a, "generation", context, batch, s, reads / copy);
    }
  }
  rusage used;
  getrusage(RUSAGE_SELF, &used);
  if (a.json) {
    std::printf("{\"peak_bytes\":%lld}\n", static_cast<long long>(used.ru_maxrss) * 1024);
  } else {
    std::printf("most memory: %.0f MB\n", static_cast<double>(used.ru_maxrss) * 1024 / 1e6);
  }
  return 0;
}

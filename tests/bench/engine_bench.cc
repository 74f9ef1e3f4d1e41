// Speed of the engine alone: ingest and generation at several context lengths, per policy.
//
//   engine_bench MODEL [--tokens N] [--threads N] [--policy NAME] [--kv f16|f32]
//
// Prints tokens a second over each stretch of the context, and the bytes it reads per token beside.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "model/engine.h"
#include "model/model.h"
#include "tests/support/memory_units.h"

using namespace ringtide;

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: engine_bench MODEL [--tokens N] [--threads N] [--policy P] [--kv T]\n");
    return 2;
  }
  int64_t tokens = 8192;
  model::EngineOptions options;
  model::PolicyConfig policy;
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    if (flag == "--tokens") tokens = std::stoll(value);
    if (flag == "--threads") options.threads = std::stoi(value);
    if (flag == "--policy") policy.kind = model::parse_policy(value);
    if (flag == "--activations") {
      options.activations = value == "f32"     ? model::ActivationType::F32
                            : value == "int16" ? model::ActivationType::Int16
                                               : model::ActivationType::Int8;
    }
    if (flag == "--kv") options.half_kv = value != "f32";
  }
  const auto start = std::chrono::steady_clock::now();
  const auto m = model::Model::load(argv[1]);
  testing::MemoryUnits units;
  auto engine = model::make_cpu_engine(m, options, units);
  std::printf("%s, %.0f MB of weights, loaded in %.2f s\n", m->config.name.c_str(),
              static_cast<double>(m->tensors.bytes) / 1e6, seconds_since(start));

  engine->open(1, policy);
  std::mt19937 random(1);
  std::vector<model::TokenId> block(policy.block);
  std::printf("%10s %12s %12s %14s\n", "context", "ingest t/s", "decode t/s", "memory MiB");
  int64_t at = 0;
  for (int64_t next = 1024; next <= tokens; next *= 2) {
    const auto from = std::chrono::steady_clock::now();
    const int64_t before = at;
    while (at < next) {
      const int64_t n = policy.block - at % policy.block;
      block.resize(n);
      for (auto& t : block) t = static_cast<model::TokenId>(17 + random() % (m->config.vocabulary - 17));
      engine->prefill(1, block);
      at += n;
    }
    const double ingest = static_cast<double>(at - before) / seconds_since(from);
    const auto decode = std::chrono::steady_clock::now();
    constexpr int kSteps = 32;
    for (int i = 0; i < kSteps; ++i) {
      const model::DecodeRow row{1, engine->sample(1, {})};
      engine->decode({&row, 1});
    }
    at += kSteps;
    std::printf("%10lld %12.0f %12.1f %14.0f\n", static_cast<long long>(next), ingest,
                kSteps / seconds_since(decode),
                static_cast<double>(engine->stats().ram_used) / (1 << 20));
  }
  return 0;
}

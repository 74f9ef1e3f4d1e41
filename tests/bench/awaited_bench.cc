// What a GPU's lookups find in its slots after a real text, which the model goes on with.
//
//   awaited_bench MODEL TEXT [--tokens N] [--steps N] [--select N]
//
// Prints milliseconds a token and the share of chosen units that were copied when they were chosen.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "kernels/gpu_load.h"
#include "model/engine.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "tests/support/memory_units.h"

using namespace ringtide;

int main(int argc, char** argv) {
  int64_t tokens = 131072, steps = 256;
  model::PolicyConfig policy;
  for (int i = 3; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--tokens") tokens = std::stoll(argv[i + 1]);
    if (flag == "--steps") steps = std::stoll(argv[i + 1]);
    if (flag == "--select") policy.select = std::stoi(argv[i + 1]);
  }
  if (argc < 3) {
    std::fprintf(stderr, "awaited_bench: see the first lines of tests/bench/awaited_bench.cc\n");
    return 2;
  }
  const auto gpu = kernels::open_gpu(0);
  if (!gpu.gpu) {
    std::fprintf(stderr, "awaited_bench: %s\n", gpu.reason.c_str());
    return 1;
  }
  const auto model = model::Model::load(argv[1]);
  std::ifstream file(argv[2]);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<model::TokenId> all = model->tokenizer->encode(text);
  tokens = std::min(tokens, static_cast<int64_t>(all.size())) / policy.block * policy.block;
  if (tokens <= 0) {
    std::fprintf(stderr, "awaited_bench: %zu tokens are too few\n", all.size());
    return 1;
  }
  testing::MemoryUnits units;
  const auto engine = model::make_gpu_engine(gpu.gpu, model, {}, units);
  engine->open(1, policy);
  for (int64_t at = 0; at < tokens; at += policy.block)
    engine->prefill(1, std::span(all).subspan(at, policy.block));
  int64_t chosen = 0, awaited = 0;
  auto begin = std::chrono::steady_clock::now();
  constexpr int64_t kWarm = 16;
  for (int64_t i = 0; i < steps; ++i) {
    if (i == kWarm) {
      chosen = engine->stats(1).units_selected;
      awaited = engine->units_awaited(1);
      begin = std::chrono::steady_clock::now();
    }
    model::SamplingParams params;
    params.temperature = 0.8f;
    const model::DecodeRow row{1, engine->sample(1, params)};
    engine->decode({&row, 1});
  }
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  chosen = engine->stats(1).units_selected - chosen;
  awaited = engine->units_awaited(1) - awaited;
  std::printf("%lld tokens: %.3f ms a token, %.1f %% of chosen units awaited\n",
              static_cast<long long>(tokens), took.count() / static_cast<double>(steps - kWarm),
              100.0 * static_cast<double>(awaited) / static_cast<double>(chosen));
  return 0;
}

// What decoding costs after a real text, which the model goes on with, and what a GPU's lookups then
// find in its slots.
//
//   awaited_bench MODEL TEXT [--tokens N[,N...]] [--steps N] [--select N] [--shape llama3-8b]
//
// For each length, in turn: milliseconds a token, its times of the first length's, and the share of
// chosen units that were copied when they were chosen. With --shape the weights are random, and only
// the tokens are MODEL's. All units are in host memory, which has to be large enough.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include "deploy/bench_store.h"
#include "deploy/random_model.h"
#include "kernels/gpu_load.h"
#include "model/engine.h"
#include "model/model.h"
#include "model/tokenizer.h"

using namespace ringtide;

namespace {

struct Decoding {
  double milliseconds = 0;  // a token
  double awaited = 0;       // of chosen units
};

Decoding decode_after(model::Engine& engine, const model::PolicyConfig& policy,
                      std::span<const model::TokenId> text, int64_t steps) {
  constexpr int64_t kWarm = 16;
  engine.open(1, policy);
  engine.prefill(1, text, std::vector<int32_t>(text.size() / policy.block, policy.block));
  int64_t chosen = 0, awaited = 0;
  auto begin = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < steps; ++i) {
    if (i == kWarm) {
      chosen = engine.stats(1).units_selected;
      awaited = engine.units_awaited(1);
      begin = std::chrono::steady_clock::now();
    }
    model::SamplingParams params;
    params.temperature = 0.8f;
    const model::DecodeRow row{1, engine.sample(1, params)};
    engine.decode({&row, 1});
  }
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  chosen = engine.stats(1).units_selected - chosen;
  awaited = engine.units_awaited(1) - awaited;
  engine.close(1);
  return {took.count() / static_cast<double>(steps - kWarm),
          chosen > 0 ? static_cast<double>(awaited) / static_cast<double>(chosen) : 0};
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int64_t> lengths{4096, 131072};
  int64_t steps = 256;
  std::string shape;
  model::PolicyConfig policy;
  for (int i = 3; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--tokens") {
      lengths.clear();
      std::istringstream list(argv[i + 1]);
      for (std::string each; std::getline(list, each, ',');) lengths.push_back(std::stoll(each));
    }
    if (flag == "--steps") steps = std::stoll(argv[i + 1]);
    if (flag == "--select") policy.select = std::stoi(argv[i + 1]);
    if (flag == "--shape") shape = argv[i + 1];
  }
  if (argc < 3 || lengths.empty()) {
    std::fprintf(stderr, "awaited_bench: see the first lines of tests/bench/awaited_bench.cc\n");
    return 2;
  }
  const auto gpu = kernels::open_gpu(0);
  if (!gpu.gpu) {
    std::fprintf(stderr, "awaited_bench: %s\n", gpu.reason.c_str());
    return 1;
  }
  const auto file = model::Model::load(argv[1]);
  std::ifstream in(argv[2]);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::vector<model::TokenId> all = file->tokenizer->encode(text);
  const auto model = shape.empty() ? file : deploy::random_model(shape);
  const model::ModelConfig& c = model->config;
  const int64_t token_bytes = int64_t{4} * c.layers * c.kv_heads * c.head_dim;
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  deploy::NoStore nothing;
  const auto engine = model::make_gpu_engine(
      gpu.gpu, model, {.ram_budget = (longest + 16384) * token_bytes * 17 / 16}, nothing);
  std::printf("%zu tokens of text\n", all.size());
  double first = 0;
  for (const int64_t wanted : lengths) {
    const int64_t n = std::min(wanted, static_cast<int64_t>(all.size())) / policy.block * policy.block;
    const Decoding run = decode_after(*engine, policy, std::span(all).first(n), steps);
    if (first == 0) first = run.milliseconds;
    std::printf("%lld tokens: %.3f ms a token, %.2f times the first, %.1f %% of chosen units awaited\n",
                static_cast<long long>(n), run.milliseconds, run.milliseconds / first,
                100 * run.awaited);
    std::fflush(stdout);
  }
  return 0;
}

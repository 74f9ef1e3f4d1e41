// ringtide bench: how fast this machine runs a model, beside what it could do at best.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "deploy/bench_device.h"
#include "deploy/bench_engine.h"
#include "deploy/commands.h"
#include "deploy/describe.h"
#include "deploy/device.h"
#include "deploy/failure.h"
#include "deploy/format.h"
#include "deploy/machine.h"
#include "deploy/model_cache.h"
#include "deploy/output.h"
#include "kernels/gpu_load.h"
#include "model/engine.h"
#include "model/model.h"
#include "model/rope_frequencies.h"

namespace ringtide::deploy {

namespace {

struct BenchOptions {
  ServerOptions server;
  std::string shape;
  std::vector<std::string> only;
  int64_t longest = int64_t{1} << 20;
  int32_t pass_tokens = model::EngineOptions().pass_tokens;
  bool json = false;
};

// Takes units and keeps none: what a store costs is another benchmark's.
class NoStore : public model::UnitStore {
 public:
  void put(uint64_t, model::SealedUnit) override {}
  void read(std::span<model::PartRead> reads) override {
    for (model::PartRead& r : reads) r.outcome = model::ReadOutcome::Absent;
  }
  bool contains(const model::UnitKey&) override { return false; }
};

std::shared_ptr<const model::Model> random_model(const std::string& shape) {
  auto made = std::make_shared<model::Model>();
  model::ModelConfig& c = made->config;
  c.architecture = "llama";
  c.name = shape;
  if (shape == "llama3-8b") {
    c.layers = 32;
    c.hidden = 4096;
    c.heads = 32;
    c.kv_heads = 8;
    c.head_dim = 128;
    c.ffn = 14336;
    c.vocabulary = 128256;
    c.trained_context = 8192;
    c.rope_inv_freq = model::rope_frequencies(128, 500000);
  }
  c.attention_scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
  made->fingerprint = "random " + shape;
  return made;
}

void tell(const Figure& f, bool json) {
  if (json) {
    print_line({{"event", "figure"},
                {"what", f.what},
                {"unit", f.unit},
                {"median", f.median},
                {"low", f.low},
                {"high", f.high},
                {"runs", f.runs},
                {"ceiling", f.ceiling > 0 ? Json(f.ceiling) : Json(nullptr)},
                {"against", f.against},
                {"share", f.share() > 0 ? Json(f.share()) : Json(nullptr)}});
    return;
  }
  const auto number = [](double x) {
    return x >= 1000 ? show_count(static_cast<int64_t>(x + 0.5)) : fmt::format("{:.4g}", x);
  };
  std::string line = fmt::format("{:<46} {:>10} {:<10}", f.what, number(f.median), f.unit);
  if (f.runs > 1) line += fmt::format(" {} to {}", number(f.low), number(f.high));
  if (f.share() > 0)
    line += fmt::format("; {:.0f} % of {} ({})", 100 * f.share(), number(f.ceiling), f.against);
  print(line + "\n");
}

void bench(const BenchOptions& options) {
  const auto wanted = [&](const char* part) {
    return options.only.empty() ||
           std::find(options.only.begin(), options.only.end(), part) != options.only.end();
  };
  const auto model = options.shape.empty() ? model::Model::load(find_model(options.server.model))
                                           : random_model(options.shape);
  const Machine machine = inspect_machine();
  const model::EngineOptions engine_options{
      .threads = options.server.threads > 0 ? options.server.threads : machine.cores,
      .ram_budget = options.server.ram_budget > 0 ? options.server.ram_budget : machine.ram / 2,
      .gpu_memory = options.server.gpu_memory,
      .pass_tokens = options.pass_tokens};
  Device device = find_device(options.server.device);
  require_serves(device, options.server.device, *model, {}, engine_options);
  if (!device.gpu && !options.shape.empty()) {
    throw Failure(Exit::Usage, fmt::format("--shape needs a GPU ({}); on the processor, measure a "
                                           "file with --model",
                                           device.note.empty() ? "--device cpu" : device.note));
  }
  if (options.json) {
    print_line({{"event", "machine"},
                {"device", device.gpu ? device.info.name : machine.cpu},
                {"model", model->config.name}});
  } else {
    print(fmt::format("{} on {}\n", model->config.name,
                      device.gpu ? show(device.info)
                                 : fmt::format("{}, {} threads", machine.cpu, engine_options.threads)));
  }

  Figures figures([&](const Figure& f) { tell(f, options.json); });
  NoStore store;
  const std::vector<int64_t> prompts =
      device.gpu ? std::vector<int64_t>{8192, 32768, 131072} : std::vector<int64_t>{1024, 4096};
  const auto& c = model->config;
  const kernels::cuda::Heads shape{c.heads, c.kv_heads, c.head_dim};
  std::shared_ptr<kernels::Gpu> gpu;
  if (device.gpu) {
    gpu = kernels::open_gpu(device.index).gpu;
    if (!gpu) throw Failure(Exit::Failed, "the GPU is gone");
    measure_ceilings(*gpu, figures);
    for (const int64_t n : prompts)
      if (n <= options.longest) measure_prefill_attention(*gpu, shape, n, figures);
    if (wanted("kernels")) {
      for (const int64_t n : {4096, 32768, 131072, 1048576})
        if (n <= options.longest) measure_decode_attention(*gpu, shape, n, figures);
      measure_fetch(*gpu, shape, figures);
    }
  }
  const auto engine = device.gpu ? model::make_gpu_engine(gpu, model, engine_options, store)
                                 : model::make_cpu_engine(model, engine_options, store);
  EngineBench run(*engine, *model, device.gpu, figures);
  if (wanted("decode")) {
    run.decode(1, 2048);
    run.decode(device.gpu ? 64 : 8, 2048);
  }
  if (wanted("retrieve") && device.gpu) {
    std::vector<int64_t> lengths;
    for (const int64_t n : {4096, 32768, 131072, 1048576})
      if (n <= options.longest) lengths.push_back(n);
    run.retrieve(lengths);
    if (!options.json) print("(infllm: pasts of random keys and values, their units in host memory)\n");
  }
  if (wanted("prefill"))
    for (const int64_t n : prompts)
      if (n <= options.longest) run.prefill(n);
  if (wanted("spill") && device.gpu) run.spill(32768);
}

}  // namespace

void add_bench(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand(
      "bench", "Measure prefill, decoding, retrieval and spilling beside the machine's ceilings");
  command->fallthrough();
  add_engine_options(command, options->server);
  add_setting(command, "--shape", options->shape,
              "Random weights of this shape instead of a model file: llama3-8b")
      ->check(CLI::IsMember({"llama3-8b"}))
      ->option_text("NAME");
  add_setting(command, "--only", options->only,
              "Only these: prefill, decode, retrieve, spill, kernels (default: all)")
      ->check(CLI::IsMember({"prefill", "decode", "retrieve", "spill", "kernels"}))
      ->delimiter(',')
      ->option_text("PARTS");
  add_setting(command, "--longest", options->longest,
              "Leave out contexts of more tokens (default 1048576)")
      ->check(CLI::Range(int64_t{1024}, int64_t{1} << 24))
      ->option_text("N");
  add_setting(command, "--pass-tokens", options->pass_tokens,
              "Most tokens that a GPU takes in one pass (default 2048)")
      ->check(CLI::Range(512, 16384))
      ->option_text("N");
  add_switch(command, "--json", options->json, "Print one JSON object a figure");
  command->callback([options, &chosen] {
    chosen = {[options] { bench(*options); }, options->json};
  });
}

}  // namespace ringtide::deploy

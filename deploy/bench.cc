// ringtide bench: how fast this machine runs a model, beside what it could do at best.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "deploy/bench_device.h"
#include "deploy/bench_engine.h"
#include "deploy/bench_processor.h"
#include "deploy/bench_ring.h"
#include "deploy/bench_store.h"
#include "deploy/commands.h"
#include "deploy/describe.h"
#include "deploy/device.h"
#include "deploy/engine_options.h"
#include "deploy/failure.h"
#include "deploy/format.h"
#include "deploy/machine.h"
#include "deploy/model_cache.h"
#include "deploy/output.h"
#include "deploy/random_model.h"
#include "kernels/gpu_load.h"
#include "kernels/instruction_set.h"
#include "model/engine.h"
#include "model/model.h"

namespace ringtide::deploy {

namespace {

struct BenchOptions {
  ServerOptions server;
  std::string shape;
  std::vector<std::string> only;
  int64_t longest = int64_t{1} << 20;
  int32_t pass_tokens = 0;  // 0: by the number of GPUs
  int shards = 1;
  ProcessorBench processor;
  std::string clock = "wall";
  std::string instruction_set;  // empty: the best there is
  bool json = false;
};

void tell(const Figure& f, bool json) {
  if (json) {
    print_line({{"event", "figure"},
                {"what", f.what},
                {"unit", f.unit},
                {"median", f.median},
                {"low", f.low},
                {"high", f.high},
                {"runs", f.runs},
                {"tokens", f.tokens},
                {"batch", f.batch},
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

bool wanted(const BenchOptions& options, const char* part) {
  return options.only.empty() ||
         std::find(options.only.begin(), options.only.end(), part) != options.only.end();
}

// Leaves out the lengths that are not wanted.
std::vector<int64_t> up_to(int64_t longest, std::vector<int64_t> lengths) {
  std::erase_if(lengths, [longest](int64_t n) { return n > longest; });
  return lengths;
}

void bench_gpu(const BenchOptions& options, const std::shared_ptr<const model::Model>& model,
               const model::EngineOptions& engine_options, const Device& device, Figures& figures) {
  const std::shared_ptr<kernels::Gpu> gpu = open_gpu(device.gpus[0]);
  const auto& c = model->config;
  const kernels::cuda::Heads shape{c.heads, c.kv_heads, c.head_dim};
  const auto prompts = up_to(options.longest, {8192, 32768, 131072});
  const auto contexts = up_to(options.longest, {4096, 32768, 131072, 1048576});
  measure_ceilings(*gpu, figures);
  for (const int64_t n : prompts) measure_prefill_attention(*gpu, shape, n, figures);
  if (wanted(options, "kernels")) {
    for (const int64_t n : contexts) measure_decode_attention(*gpu, shape, n, figures);
    measure_fetch(*gpu, shape, figures);
  }
  NoStore store;
  const auto engine = model::make_gpu_engine(gpu, model, engine_options, store);
  EngineBench run(*engine, *model, figures);
  if (wanted(options, "decode")) {
    run.decode(1, 2048);
    run.decode(64, 2048);
  }
  if (wanted(options, "retrieve")) {
    run.retrieve(contexts);
    if (!options.json) {
      print(
          "(infllm: pasts of random keys and values, their units in host memory: each new token "
          "looks for other units, one token over and over for nearly the same)\n");
    }
  }
  if (wanted(options, "prefill")) {
    for (const int64_t n : prompts) run.prefill(n);
  }
  if (wanted(options, "spill")) run.spill(32768);
}

// A ring's passes are long: as many tiles of queries on each GPU as fill an H100's multiprocessors
// evenly, 132 of 128 tokens.
int32_t pass_tokens(const BenchOptions& options) {
  if (options.pass_tokens > 0) return options.pass_tokens;
  return options.shards > 1 ? options.shards * 2 * 132 * 128 : model::EngineOptions().pass_tokens;
}

void bench(BenchOptions& options) {
  const Machine machine = inspect_machine();
  model::EngineOptions engine = engine_options(options.server, machine);
  engine.pass_tokens = pass_tokens(options);
  const std::string file = options.shape.empty() ? find_model(options.server.model) : "";
  if (!kernels::use_instruction_set(options.instruction_set)) {
    throw Failure(Exit::Usage,
                  fmt::format("--instruction-set {}: this processor has {}",
                              options.instruction_set,
                              fmt::join(kernels::instruction_sets(), ", ")));
  }
  const double start = model::wall_seconds();
  const auto model = file.empty() ? random_model(options.shape) : model::Model::load(file);
  const double loaded = model::wall_seconds();
  Device device = find_device(options.server.device, options.shards);
  require_serves(device, options.server.device, *model, {.kind = model::PolicyKind::Exact}, engine);
  engine.gpu_memory = gpu_memory(device, engine);
  if (!device.on_gpu() && options.shards > 1)
    throw Failure(Exit::Usage, "--shards measures rings of GPUs: " + device.note);
  if (!device.on_gpu() && file.empty()) {
    throw Failure(Exit::Usage, fmt::format("--shape needs a GPU ({}); on the processor, measure a "
                                           "file with --model",
                                           device.note.empty() ? "--device cpu" : device.note));
  }
  if (options.json) {
    print_line({{"event", "machine"},
                {"device", device.on_gpu() ? device.name() : machine.cpu},
                {"model", model->config.name},
                {"threads", engine.threads},
                {"instruction_set", kernels::instruction_set()}});
  } else {
    print(fmt::format("{} on {}\n", model->config.name,
                      device.on_gpu() ? show(device.info)
                                      : fmt::format("{}, {}, {} threads", machine.cpu,
                                                    kernels::instruction_set(), engine.threads)));
  }
  Figures figures([&](const Figure& f) { tell(f, options.json); });
  if (options.shards > 1) {
    return bench_ring({.model = model,
                       .engine = engine,
                       .gpus = device.gpus,
                       .longest = options.longest,
                       .prefill = wanted(options, "prefill"),
                       .decode = wanted(options, "decode"),
                       .append = wanted(options, "append")},
                      figures);
  }
  if (device.on_gpu()) return bench_gpu(options, model, engine, device, figures);

  ProcessorBench& bench = options.processor;
  bench.model = model;
  bench.model_seconds = loaded - start;
  bench.engine = engine;
  bench.plan.policy.kind = model::PolicyKind::Exact;
  bench.plan.clock = options.clock == "processor" ? model::processor_seconds : model::wall_seconds;
  for (auto* lengths : {&bench.prompts, &bench.contexts})
    *lengths = up_to(options.longest, *lengths);
  if (!wanted(options, "prefill")) bench.prompts.clear();
  if (!wanted(options, "decode")) bench.contexts.clear();
  bench_processor(bench, figures);
}

constexpr const char* kProcessor = "On the processor";

void add_lengths(CLI::App* command, const std::string& flag, std::vector<int64_t>& values,
                 std::string help, int64_t least) {
  help += " (default ";
  for (size_t i = 0; i < values.size(); ++i) help += (i > 0 ? "," : "") + std::to_string(values[i]);
  add_setting(command, flag, values, help + ")")
      ->check(CLI::Range(least, int64_t{1} << 24))
      ->delimiter(',')
      ->option_text("N,...")
      ->group(kProcessor);
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
              "Only these: prefill, decode, retrieve, spill, kernels; of a ring prefill, decode, "
              "append (default: all)")
      ->check(CLI::IsMember({"prefill", "decode", "retrieve", "spill", "kernels", "append"}))
      ->delimiter(',')
      ->option_text("PARTS");
  add_setting(command, "--longest", options->longest,
              "Leave out contexts of more tokens (default 1048576)")
      ->check(CLI::Range(int64_t{1024}, int64_t{1} << 24))
      ->option_text("N");
  add_setting(command, "--pass-tokens", options->pass_tokens,
              "Most tokens that a GPU, or a ring of them, takes in one pass (default 2048, of a ring "
              "33792 a GPU)")
      ->check(CLI::Range(512, 1 << 20))
      ->option_text("N");
  add_setting(command, "--shards", options->shards,
              "GPUs of a ring, beside one: prefill and decoding of one long session (default 1)")
      ->check(CLI::Range(1, 16))
      ->option_text("N");
  ProcessorBench& processor = options->processor;
  add_lengths(command, "--prompt", processor.prompts, "Prompts of so many tokens", 1);
  add_lengths(command, "--context", processor.contexts, "Generation after so many tokens", 0);
  add_lengths(command, "--batch", processor.batches, "Generation in so many sessions at once", 1);
  add_setting(command, "--repeats", processor.plan.repeats, "Runs of each (default 5)")
      ->check(CLI::Range(1, 1000))
      ->option_text("N")
      ->group(kProcessor);
  add_setting(command, "--steps", processor.plan.steps,
              "Tokens generated a run and session (default 32)")
      ->check(CLI::Range(1, 100000))
      ->option_text("N")
      ->group(kProcessor);
  add_setting(command, "--clock", options->clock,
              "wall (default); processor: the time that processors worked, all threads together")
      ->check(CLI::IsMember({"wall", "processor"}))
      ->option_text("NAME")
      ->group(kProcessor);
  add_setting(command, "--instruction-set", options->instruction_set,
              "Only this of the instruction sets that kernels are compiled for, as AVX2 (default: "
              "the best that the processor has)")
      ->option_text("NAME")
      ->group(kProcessor);
  add_switch(command, "--json", options->json, "Print one JSON object a figure");
  command->callback([options, &chosen] {
    chosen = {[options] { bench(*options); }, options->json};
  });
}

}  // namespace ringtide::deploy

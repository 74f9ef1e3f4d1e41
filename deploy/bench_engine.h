// What an engine makes of a model: prefill, decoding, retrieval, spilling.
#pragma once

#include "deploy/bench_figures.h"
#include "model/engine.h"
#include "model/model.h"

namespace ringtide::deploy {

class EngineBench {
 public:
  // The ceilings of bench_device.h are among `figures`, and bound what is measured.
  EngineBench(model::Engine& engine, const model::Model& model, Figures& figures)
      : engine_(engine), model_(model), figures_(figures) {}

  // Of a prompt under `exact`, its keys and values leaving for the store meanwhile.
  void prefill(int64_t tokens);
  Figure prefill_rate(int64_t tokens);  // the same, neither bounded nor told
  Figure reading_rate(int64_t tokens);  // and under `infllm`
  // What that leaving costs: the same prompt where nothing leaves.
  void spill(int64_t tokens);
  // Of sessions of so many tokens each under `exact`.
  void decode(int batch, int64_t tokens);
  Figure decode_rate(int batch, int64_t tokens);
  // Milliseconds of a block of so many tokens behind a past of others, under `exact`.
  Figure append_time(int64_t tokens, int64_t past);
  // Of one session under `infllm` with all its units in host memory, at each of these lengths, and
  // the GPU memory it takes.
  void retrieve(const std::vector<int64_t>& lengths);

 private:
  Figure rate(const std::string& what, const model::PolicyConfig& policy, int64_t tokens);
  double prefill_seconds(const model::PolicyConfig& policy, int64_t tokens);
  struct Decoding {
    std::vector<double> seconds;  // a step, of each run
    int64_t gpu_bytes = 0;        // of the contexts
    double awaited = 0;           // of the first context's chosen units, copied when they were chosen
  };
  // Steps feed on what was sampled, or all on one token.
  Decoding decode_steps(int batch, const model::PolicyConfig& policy, int64_t tokens,
                        bool one_token = false);
  void add_lookups(const std::string& what, const Decoding& run, double first,
                   const std::string& against);

  model::Engine& engine_;
  const model::Model& model_;
  Figures& figures_;
};

}  // namespace ringtide::deploy

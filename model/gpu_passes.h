// The forward pass on the device: blocks of one context at a time, or one token each of several;
// and what comes of them.
//
// Which of the two a token takes follows from its block's length alone, and in both its result
// depends on its own sequence alone: batches and passes of any composition give the same bits.
//
// On a ring every shard makes every pass, attends to what it has, and the parts are merged: all
// shards then have the same rows, bit for bit. A pass of a ring is over when its call returns.
//
// The engine's thread only.
#pragma once

#include <memory>
#include <span>

#include "kernels/gpu.h"
#include "model/gpu_angles.h"
#include "model/gpu_blocks.h"
#include "model/gpu_buffer.h"
#include "model/gpu_context.h"
#include "model/gpu_dense.h"
#include "model/gpu_sampler.h"
#include "model/gpu_steps.h"
#include "model/gpu_weights.h"

namespace ringtide::model {

class GpuPasses {
 public:
  // `pass_rows`: most tokens of a prefill().
  GpuPasses(kernels::Gpu& gpu, const Model& model, const GpuWeights& weights, GpuHome& home,
            UnitStore& store, int32_t pass_rows);

  // As GpuBlocks and GpuSteps.
  void prefill(GpuContext& context, std::span<const TokenId> tokens,
               std::span<const int32_t> lengths);
  using Row = GpuSteps::Row;
  void decode(std::span<const Row> rows) { steps_.decode(rows); }

  // Logits after a context's last token, (vocabulary), on the device until the next call.
  float* logits(GpuContext& context);
  void sample(std::span<GpuContext* const> contexts, std::span<const SamplingParams> params,
              std::span<TokenId> tokens);
  // Waits for passes whose contexts have not been told which units they used, and tells them.
  void settle();
  void forget(const GpuContext& context) noexcept;  // it goes away

  static int64_t bytes(const ModelConfig& config, int32_t pass_rows, bool ring);

 private:
  kernels::Gpu& gpu_;
  const ModelConfig& config_;
  GpuDense dense_;
  GpuBlocks blocks_;
  GpuSteps steps_;
  GpuSampler sampler_;
  GpuBuffer logits_;  // (vocabulary), float32: of a row that no step has made
  const std::unique_ptr<kernels::Gpu::Event> sampled_there_;
};

}  // namespace ringtide::model

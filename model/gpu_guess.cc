#include "model/gpu_guess.h"

namespace ringtide::model {

using kernels::Gpu;

GpuGuess::GpuGuess(Gpu& gpu, const ModelConfig& c, const GpuWeights& weights, GpuHome& home,
                   UnitStore& store)
    : gpu_(gpu),
      config_(c),
      weights_(weights),
      home_(home),
      q_row_(int64_t{c.heads} * c.head_dim),
      h_(gpu, int64_t{c.hidden} * 4),
      product_(gpu, q_row_ * 2),
      rotated_(gpu, q_row_ * 2),
      q_(gpu, q_row_ * 2),
      product_scratch_(gpu, gpu.few_rows_scratch(q_row_, c.hidden) * 4),
      lookup_(gpu, home, store),
      asked_(gpu.make_event()),
      chosen_(gpu.make_event()),
      looked_up_(gpu.make_event()),
      assigned_(gpu.make_event()),
      there_(gpu.make_event()) {
  gpu.fill(product_scratch_.full(), 0, gpu.few_rows_scratch(q_row_, c.hidden) * 4);
}

bool GpuGuess::begin(const GpuLayout& layout, int32_t sealed, int32_t select) {
  return lookup_.begin(layout, 1, 1, sealed, select);
}

kernels::cuda::bf16* GpuGuess::h(int layer) const {
  return h_.half(layer % 2 * int64_t{config_.hidden});
}

void GpuGuess::prepare(int layer, const float* x) {
  gpu_.rms_norm(x, weights_.layers()[layer].attention_norm, config_.norm_eps, 1, config_.hidden,
                h(layer));
}

void GpuGuess::choose(int layer, const Inputs& in) {
  const GpuLayerWeights& w = weights_.layers()[layer];
  gpu_.record(*asked_);
  gpu_.wait(Gpu::Queue::Side, *asked_);
  gpu_.use(Gpu::Queue::Side);
  gpu_.few_rows({.x = h(layer),
                 .w = w.qkv,
                 .m = 1,
                 .n = q_row_,
                 .k = config_.hidden,
                 .y = product_.half(),
                 .scratch = product_scratch_.full()});
  kernels::cuda::Qkv split;  // queries alone
  split.shape = {config_.heads, 0, config_.head_dim};
  split.qkv = product_.half();
  split.bias = w.qkv_bias;
  split.q_norm = w.q_norm;
  split.norm_eps = config_.norm_eps;
  split.cos = home_.angles.cos();
  split.sin = home_.angles.sin();
  split.place = in.place;
  split.rows = 1;
  split.q_near = rotated_.half();
  split.q_lookup = q_.half();
  split.lookup_angle = in.angle;
  gpu_.split_qkv(split);
  next_ = lookup_.make(0, layer);
  next_.q = q_.half();
  next_.memory = in.memory;
  next_.slots = in.slots + layer;
  next_.vote = in.vote;
  next_.tick = in.tick;
  next_.guess = true;
  gpu_.choose_units(next_);
  gpu_.record(*chosen_, Gpu::Queue::Side);
  gpu_.use(Gpu::Queue::Compute);
}

void GpuGuess::bring() {
  gpu_.record(*looked_up_);
  gpu_.wait(Gpu::Queue::Fetch, *looked_up_);
  gpu_.wait(Gpu::Queue::Fetch, *chosen_);
  gpu_.use(Gpu::Queue::Fetch);
  gpu_.assign_slots(next_);
  gpu_.record(*assigned_, Gpu::Queue::Fetch);
  gpu_.fetch_units(next_);
  gpu_.record(*there_, Gpu::Queue::Fetch);
  gpu_.use(Gpu::Queue::Compute);
}

void GpuGuess::await_slots() { gpu_.wait(Gpu::Queue::Compute, *assigned_); }
void GpuGuess::await_copies() { gpu_.wait(Gpu::Queue::Compute, *there_); }

}  // namespace ringtide::model

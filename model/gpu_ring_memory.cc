#include "model/gpu_ring_memory.h"

#include <stdexcept>
#include <string>

#include "model/engine.h"
#include "model/model.h"

namespace ringtide::model {
namespace {

int64_t rows_of_block(const ModelConfig& c) {
  return int64_t{2} * c.kv_heads * GpuRingMemory::kPage;
}
int64_t row_size(const ModelConfig& c) { return int64_t{c.head_dim} * 2; }

}  // namespace

GpuRingMemory::GpuRingMemory(kernels::Gpu& gpu, const ModelConfig& c, int shards, int64_t blocks)
    : gpu_(gpu),
      layers_(c.layers),
      shards_(shards),
      blocks_(blocks),
      row_bytes_(row_size(c)),
      block_rows_(rows_of_block(c)),
      block_bytes_(block_rows_ * row_bytes_),
      base_(static_cast<std::byte*>(gpu.allocate(blocks * bytes(c, shards)))),
      taken_(blocks),
      used_(shards) {}

GpuRingMemory::~GpuRingMemory() { gpu_.release(base_); }

int64_t GpuRingMemory::bytes(const ModelConfig& c, int shards) {
  return (c.layers + buffers(shards)) * rows_of_block(c) * row_size(c);
}

kernels::cuda::Arena GpuRingMemory::arena() const {
  return {reinterpret_cast<kernels::cuda::bf16*>(base_),
          (layers_ + buffers(shards_)) * blocks_ * block_rows_};
}

const std::byte* GpuRingMemory::together(const std::vector<int64_t>& blocks, int64_t count,
                                         int layer) {
  const auto block = [&](int64_t b) { return at(int64_t{layer} * layer_rows() + row(b)); };
  if (count == 0) return nullptr;
  bool scattered = false;
  for (int64_t i = 1; i < count; ++i) scattered |= blocks[i] != blocks[0] + i;
  if (!scattered) return block(blocks[0]);
  std::byte* const to = at(receive_row(buffers(shards_) - 1));
  for (int64_t i = 0, end; i < count; i = end) {
    end = i + 1;
    while (end < count && blocks[end] == blocks[i] + end - i) ++end;
    gpu_.copy(to + i * block_bytes_, block(blocks[i]), (end - i) * block_bytes_,
              kernels::Gpu::Queue::Copy);
  }
  return to;
}

void GpuRingMemory::reserve(int shard, int64_t blocks) {
  if (used_[shard] + blocks > blocks_) {
    throw OutOfBudget("GPU memory of shard " + std::to_string(shard) +
                      " is used up: " + std::to_string(blocks_ * kPage) +
                      " tokens a shard; raise --gpu-memory, add GPUs or close sessions");
  }
  used_[shard] += blocks;
}

void GpuRingMemory::take(int64_t n, std::vector<int64_t>& blocks) {
  // The first place with room for all, else whatever is free.
  int64_t begin = 0, free = 0;
  for (int64_t b = 0; b < blocks_ && free < n; ++b) {
    free = taken_[b] ? 0 : free + 1;
    begin = b + 1 - free;
  }
  for (int64_t b = free < n ? 0 : begin; n > 0; ++b) {
    if (b == blocks_) throw std::logic_error("more blocks are taken than reserved");
    if (taken_[b]) continue;
    taken_[b] = true;
    blocks.push_back(b);
    --n;
  }
}

void GpuRingMemory::give(const std::vector<int64_t>& blocks) {
  for (const int64_t b : blocks) taken_[b] = false;
}

}  // namespace ringtide::model

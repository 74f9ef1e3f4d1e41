// The keys and values that one GPU of a ring holds, of all its contexts: blocks of kPage tokens.
//
// Layer by layer all blocks lie side by side, so that what a layer sends is one piece where a
// context's blocks follow each other: rotated keys (kv_heads, kPage, head_dim), then values. After
// the layers come the buffers of the ring: what arrives, and a place to gather what lies scattered.
//
// All shards have the same number of blocks and know how many of them each one uses, so that they
// find together that there is no more room. The engine's thread only.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/gpu.h"

namespace ringtide::model {

struct ModelConfig;

class GpuRingMemory {
 public:
  static constexpr int32_t kPage = 128;  // tokens

  GpuRingMemory(kernels::Gpu& gpu, const ModelConfig& config, int shards, int64_t blocks);
  ~GpuRingMemory();
  GpuRingMemory(const GpuRingMemory&) = delete;

  // Of one block, all layers and buffers.
  static int64_t bytes(const ModelConfig& config, int shards);
  int64_t blocks() const { return blocks_; }
  int64_t block_bytes() const { return block_bytes_; }  // of one layer
  kernels::cuda::Arena arena() const;

  // Rows of a block's keys in layer 0; its values, and the next layer.
  int32_t row(int64_t block) const { return static_cast<int32_t>(block * block_rows_); }
  int32_t plane_rows() const { return static_cast<int32_t>(block_rows_ / 2); }
  int32_t layer_rows() const { return static_cast<int32_t>(blocks_ * block_rows_); }
  int32_t receive_row(int buffer) const { return (layers_ + buffer) * layer_rows(); }
  std::byte* at(int64_t row) const { return base_ + row * row_bytes_; }
  // The first `count` of these blocks in one layer, side by side: where they are, or copied
  // together on the copy queue.
  const std::byte* together(const std::vector<int64_t>& blocks, int64_t count, int layer);

  // Room on a shard, by count. Throws OutOfBudget.
  void reserve(int shard, int64_t blocks);
  void unreserve(int shard, int64_t blocks) { used_[shard] -= blocks; }
  int64_t used(int shard) const { return used_[shard]; }
  // Appends n blocks, side by side where there are as many. REQUIRES: they are reserved.
  void take(int64_t n, std::vector<int64_t>& blocks);
  void give(const std::vector<int64_t>& blocks);

 private:
  static int buffers(int shards) { return (shards > 2 ? 2 : shards - 1) + 1; }

  kernels::Gpu& gpu_;
  const int layers_, shards_;
  const int64_t blocks_, row_bytes_, block_rows_, block_bytes_;
  std::byte* base_;
  std::vector<bool> taken_;
  std::vector<int64_t> used_;  // by shard
};

}  // namespace ringtide::model

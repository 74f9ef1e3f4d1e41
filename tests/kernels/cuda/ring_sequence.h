// A sequence in bf16 on the shards of a ring of GPUs, and whole on one, for the tests of the ring.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/ring_link.h"
#include "kernels/ring/placement.h"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {

// Device memory aligned as an arena, of 0xff bytes (NaN) until filled.
class ArenaMemory {
 public:
  explicit ArenaMemory(int64_t values) {
    check(cudaMalloc(&memory_, values * sizeof(bf16) + 1024), "cudaMalloc");
    check(cudaMemset(memory_, 0xff, values * sizeof(bf16) + 1024), "cudaMemset");
    const auto at = reinterpret_cast<uintptr_t>(memory_);
    data_ = reinterpret_cast<bf16*>((at + 1023) / 1024 * 1024);
  }
  ~ArenaMemory() { cudaFree(memory_); }
  ArenaMemory(const ArenaMemory&) = delete;
  bf16* data() const { return data_; }

 private:
  void* memory_ = nullptr;
  bf16* data_ = nullptr;
};

struct RingSequence {
  RingSequence(std::mt19937_64& random, const Heads& shape, int unit, int64_t tokens)
      : shape(shape), unit(unit), tokens(tokens) {
    const int64_t kv = int64_t{shape.kv_heads} * shape.head_dim;
    k = normals_bf16(random, tokens * kv);
    v = normals_bf16(random, tokens * kv);
    q = normals_bf16(random, tokens * width());
    scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  }
  int64_t width() const { return int64_t{shape.heads} * shape.head_dim; }
  int64_t block_values() const { return int64_t{2} * shape.kv_heads * unit * shape.head_dim; }

  // Keys and values of blocks in order; tokens that do not exist are NaN.
  std::vector<bf16> planes(const std::vector<int64_t>& blocks) const {
    std::vector<bf16> x(blocks.size() * block_values(), __float2bfloat16_rn(NAN));
    const int dim = shape.head_dim;
    for (size_t b = 0; b < blocks.size(); ++b)
      for (int64_t t = blocks[b] * unit; t < std::min((blocks[b] + 1) * unit, tokens); ++t)
        for (int part = 0; part < 2; ++part)
          for (int g = 0; g < shape.kv_heads; ++g)
            std::copy_n((part == 0 ? k : v).begin() + (t * shape.kv_heads + g) * dim, dim,
                        x.begin() + b * block_values() +
                            ((int64_t{part} * shape.kv_heads + g) * unit + t % unit) * dim);
    return x;
  }
  std::vector<KvRef> refs(const std::vector<int64_t>& blocks) const {
    std::vector<KvRef> refs;
    const auto rows = static_cast<int32_t>(block_values() / shape.head_dim);
    for (size_t b = 0; b < blocks.size(); ++b) {
      KvRef ref;
      ref.k_row = static_cast<int32_t>(b) * rows;
      ref.v_row = ref.k_row + rows / 2;
      ref.end = static_cast<int32_t>(std::min<int64_t>(unit, tokens - blocks[b] * unit));
      ref.position = blocks[b] * unit;
      refs.push_back(ref);
    }
    return refs;
  }
  std::vector<int64_t> all_blocks() const {
    std::vector<int64_t> blocks((tokens + unit - 1) / unit);
    for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<int64_t>(i);
    return blocks;
  }
  // Of the fresh queries of a shard, in order.
  std::vector<bf16> queries(const std::vector<ring::Tokens>& runs) const {
    std::vector<bf16> x;
    for (const ring::Tokens& run : runs)
      x.insert(x.end(), q.begin() + run.begin * width(), q.begin() + run.end * width());
    return x;
  }

  // Attention in float64 of one head of the query at `position`.
  void slow(int64_t position, int head, std::vector<double>& o, double& lse) const {
    const int dim = shape.head_dim, g = head / shape.group();
    std::vector<double> logits(position + 1);
    double most = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t t = 0; t <= position; ++t) {
      double dot = 0;
      for (int d = 0; d < dim; ++d)
        dot += value(q[position * width() + head * dim + d]) *
               value(k[(t * shape.kv_heads + g) * dim + d]);
      most = std::max(most, logits[t] = dot * scale);
    }
    o.assign(dim, 0);
    for (int64_t t = 0; t <= position; ++t) {
      const double p = std::exp(logits[t] - most);
      sum += p;
      for (int d = 0; d < dim; ++d) o[d] += p * value(v[(t * shape.kv_heads + g) * dim + d]);
    }
    for (double& x : o) x /= sum;
    lse = most + std::log(sum);
  }

  Heads shape;
  int unit;
  int64_t tokens;
  float scale;
  std::vector<bf16> k, v, q;
};

// A stream of this thread, on its device, that other threads can name.
inline cudaStream_t own_stream() {
  thread_local const struct Own {
    Own() { check(cudaStreamCreate(&stream), "a stream"); }
    ~Own() { cudaStreamDestroy(stream); }
    cudaStream_t stream = nullptr;
  } own;
  return own.stream;
}

// Runs body(shard) in a thread each, on its device; what they threw, empty if nothing.
inline std::vector<std::string> on_devices(const std::vector<int>& devices,
                                           const std::function<void(int)>& body) {
  std::vector<std::string> thrown(devices.size());
  std::vector<std::thread> threads;
  for (size_t s = 0; s < devices.size(); ++s) {
    threads.emplace_back([&, s] {
      try {
        check(cudaSetDevice(devices[s]), "cudaSetDevice");
        body(static_cast<int>(s));
      } catch (const std::exception& e) {
        thrown[s] = e.what();
      }
    });
  }
  for (auto& t : threads) t.join();
  return thrown;
}

}  // namespace ringtide::kernels::cuda

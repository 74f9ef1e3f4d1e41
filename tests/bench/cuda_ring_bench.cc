// A ring of two GPUs beside one, Llama 3 8B's attention of one layer: transfers, causal prefill of
// whole prompts, a decode step, and what the cost model makes of them for more GPUs.
//
// Efficiency is the time of one GPU, the mean of both alone with the same kernel, by twice the
// ring's. A run is several layers one after the other; times are medians.
//
// Usage: cuda_ring_bench [short | copy]: without the longest prompts; over copy engines only.
#include <cuda_bf16.h>
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/nccl_ring.h"
#include "kernels/cuda/peer_ring.h"
#include "kernels/cuda/ring_decode.h"
#include "kernels/cuda/ring_prefill.h"
#include "kernels/cuda/weights.h"
#include "kernels/ring/cost_model.h"
#include "kernels/ring/plan.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kShards = 2, kUnit = 128;
constexpr Heads kLlama{32, 8, 128};
constexpr int64_t kWidth = 32 * 128, kBlockRows = 2 * 8 * kUnit;
constexpr std::chrono::milliseconds kDeadline{20000};
constexpr int64_t kPart = ring_part_floats(kLlama, 1);
const float kScale = 1 / std::sqrt(128.0f);

template <class T>
struct Memory {
  explicit Memory(int64_t n) {
    check(cudaMalloc(&data, std::max<int64_t>(n, 1) * sizeof(T)), "cudaMalloc");
  }
  explicit Memory(const std::vector<T>& values) : Memory(values.size()) {
    check(cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyDefault), "copy");
  }
  ~Memory() { cudaFree(data); }
  Memory(const Memory&) = delete;
  T* data = nullptr;
};
struct Normals : Memory<bf16> {
  Normals(int64_t n, uint64_t seed) : Memory(n) {
    fill_normal(data, n, 1, seed, nullptr);
    check(cudaDeviceSynchronize(), "fill_normal");
  }
};

// A stream of this thread, on its device, that other threads can name.
cudaStream_t own_stream() {
  thread_local const struct Own {
    Own() { check(cudaStreamCreate(&stream), "a stream"); }
    ~Own() { cudaStreamDestroy(stream); }
    cudaStream_t stream = nullptr;
  } own;
  return own.stream;
}

// What runs between two GPUs, and how.
struct Way {
  std::string name;
  bool nccl = false;
  int max_blocks = 0;
};
class Links {
 public:
  // Every way's links are made once.
  static Links& of(const Way& way) {
    auto& links = made[{way.nccl, way.max_blocks}];
    if (!links) links = std::make_unique<Links>(way);
    return *links;
  }
  // Both shards at once, as leaving a ring wants.
  static void leave(int shard) {
    for (auto& [way, links] : made) links->ends_[shard].reset();
  }
  explicit Links(const Way& way) : way_(way) {
    if (way.nccl)
      id_ = make_nccl_id();
    else
      peers_ = std::make_unique<PeerRing>(std::vector{0, 1}, kDeadline, kPart);
  }
  RingLink& at(int shard) {
    if (!way_.nccl) return peers_->at(shard);
    if (!ends_[shard])
      ends_[shard] = make_nccl_ring(id_, shard, kShards, {kDeadline, way_.max_blocks, kPart});
    return *ends_[shard];
  }
  uint64_t number[kShards] = {};  // the next step's, by shard

 private:
  static inline std::map<std::pair<bool, int>, std::unique_ptr<Links>> made;
  Way way_;
  NcclId id_{};
  std::unique_ptr<PeerRing> peers_;
  std::unique_ptr<RingLink> ends_[kShards];
};

std::barrier meet(kShards);

double median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + x.size() / 2, x.end());
  return x[x.size() / 2];
}

// Seconds of one call, by shard; all shards begin together. `finish` waits for the stream.
double measure(const std::function<void()>& call, const std::function<void()>& finish,
               double expected) {
  const cudaStream_t stream = own_stream();
  cudaEvent_t from, to;
  check(cudaEventCreate(&from), "event");
  check(cudaEventCreate(&to), "event");
  const int calls = std::clamp(static_cast<int>(40e-3 / expected), 1, 200);
  const int runs = std::clamp(static_cast<int>(1 / (calls * expected)), 3, 9);
  for (int i = 0; i < 2; ++i) call();
  finish();
  std::vector<double> times;
  for (int run = 0; run < runs; ++run) {
    meet.arrive_and_wait();
    check(cudaEventRecord(from, stream), "event");
    for (int i = 0; i < calls; ++i) call();
    check(cudaEventRecord(to, stream), "event");
    finish();
    float ms = 0;
    check(cudaEventElapsedTime(&ms, from, to), "event");
    times.push_back(ms * 1e-3 / calls);
  }
  check(cudaEventDestroy(from), "event");
  check(cudaEventDestroy(to), "event");
  return median(times);
}

// body(shard) returns seconds; of both, the longest and the mean.
struct Both {
  double longest = 0, mean = 0;
};
Both on_both(const std::function<double(int)>& body) {
  double seconds[kShards] = {};
  std::vector<std::thread> threads;
  for (int s = 0; s < kShards; ++s) {
    threads.emplace_back([&, s] {
      try {
        check(cudaSetDevice(s), "cudaSetDevice");
        seconds[s] = body(s);
      } catch (const std::exception& e) {
        std::printf("shard %d: %s\n", s, e.what());
        std::fflush(stdout);
        std::_Exit(1);  // the other waits for this one
      }
    });
  }
  for (auto& t : threads) t.join();
  return {std::max(seconds[0], seconds[1]), (seconds[0] + seconds[1]) / 2};
}

double attention_flops(double tokens) { return 4.0 * kWidth * tokens * tokens / 2; }

std::vector<KvRef> refs_of(const std::vector<int64_t>& blocks) {
  std::vector<KvRef> refs;
  for (size_t b = 0; b < blocks.size(); ++b) {
    KvRef ref;
    ref.k_row = static_cast<int32_t>(b * kBlockRows);
    ref.v_row = static_cast<int32_t>(ref.k_row + kBlockRows / 2);
    ref.end = kUnit;
    ref.position = blocks[b] * kUnit;
    refs.push_back(ref);
  }
  return refs;
}
std::vector<int64_t> first_blocks(int64_t n) {
  std::vector<int64_t> blocks(n);
  for (int64_t i = 0; i < n; ++i) blocks[i] = i;
  return blocks;
}
void wait_for_stream() { check(cudaStreamSynchronize(own_stream()), "run"); }

// The mean of both GPUs, each alone with the whole prompt.
double one_gpu_prefill(int64_t tokens) {
  return on_both([&](int) {
           const std::vector<KvRef> refs = refs_of(first_blocks(tokens / kUnit));
           const auto n = static_cast<int32_t>(refs.size());
           Memory<KvRef> list(refs);
           Memory<int32_t> count(std::vector{n});
           Normals arena(n * kBlockRows * 128, 1), q(tokens * kWidth, 2);
           Memory<bf16> o(tokens * kWidth);
           Memory<float> lse(tokens * 32);
           Memory<int32_t> work(std::vector<int32_t>(2));
           PrefillAttention a;
           a.shape = kLlama;
           a.unit = kUnit;
           a.arena = {arena.data, n * kBlockRows};
           a.q_near = a.q_far = q.data;
           a.q_stride = kWidth;
           a.m = static_cast<int32_t>(tokens);
           a.lists.near = {list.data, count.data, n, 0};
           a.scale = kScale;
           a.o = o.data;
           a.lse = lse.data;
           a.work = work.data;
           return measure([&] { prefill_attention(a, own_stream()); }, wait_for_stream,
                          attention_flops(tokens) / 6e14);
         })
      .mean;
}

double ring_prefill(int64_t tokens, const Way& way) {
  Links& links = Links::of(way);
  ring::Placement placement(kShards, kUnit);
  placement.append(tokens);
  return on_both([&](int shard) {
           RingLink& link = links.at(shard);
           const ring::Plan plan = make_plan(placement, {0, tokens}, ring::Mode::PassKv, shard);
           const int64_t local =
               static_cast<int64_t>(placement.blocks_of(shard).size()) * kBlockRows;
           const int64_t rows = local + ring_prefill_rows(plan, kLlama);
           Normals arena(rows * 128, 1 + shard), q(plan.queries * kWidth, 3);
           Memory<bf16> o(plan.queries * kWidth);
           Memory<float> lse(plan.queries * 32), scratch(ring_prefill_scratch(plan, kLlama));
           RingPrefillOptions options;
           options.shape = kLlama;
           options.scale = kScale;
           options.arena = {arena.data, rows};
           options.receive_row = local;
           options.scratch = scratch.data;
           RingPrefill prefill(plan, options);
           RingLayer layer;
           layer.q = q.data;
           layer.q_stride = kWidth;
           layer.o = o.data;
           layer.lse = lse.data;
           uint64_t& number = links.number[shard];
           return measure([&] { number = prefill.run(layer, number, link, own_stream()); },
                          [&] { link.finish(own_stream()); },
                          attention_flops(tokens) / 6e14 / kShards);
         })
      .longest;
}

// One call a hop: tokens are dealt in stripes of two blocks, so that every hop's queries see equally
// much on both GPUs, and the kernel is told where each run of queries stands.
double striped_prefill(int64_t tokens, const Way& way) {
  Links& links = Links::of(way);
  ring::Placement placement(kShards, kUnit);
  for (int64_t at = 0; at < tokens; at += 4 * kUnit) placement.append(4 * kUnit);
  return on_both([&](int shard) {
           RingLink& link = links.at(shard);
           const auto& mine = placement.blocks_of(shard);
           const auto& theirs = placement.blocks_of(1 - shard);
           const auto n = static_cast<int32_t>(mine.size());
           const int64_t rows = n * kBlockRows, queries = int64_t{n} * kUnit;
           Memory<KvRef> here(refs_of(mine)), there(refs_of(theirs));
           Memory<int32_t> count(std::vector{n});
           std::vector<int64_t> at;
           for (const int64_t block : mine) at.push_back(block * kUnit);
           Memory<int64_t> positions(at);
           Normals arena(2 * rows * 128, 1 + shard), q(queries * kWidth, 3);
           Memory<bf16> o(queries * kWidth);
           Memory<float> partial(queries * kWidth), lse(queries * 32);
           Memory<int32_t> work(std::vector<int32_t>(2));
           PrefillAttention a;
           a.shape = kLlama;
           a.unit = kUnit;
           a.arena = {arena.data, 2 * rows};
           a.q_near = a.q_far = q.data;
           a.q_stride = kWidth;
           a.m = static_cast<int32_t>(queries);
           a.positions = positions.data;
           a.scale = kScale;
           a.lse = lse.data;
           a.work = work.data;
           cudaStream_t travel;
           cudaEvent_t ready, arrived;
           check(cudaStreamCreateWithFlags(&travel, cudaStreamNonBlocking), "stream");
           check(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming), "event");
           check(cudaEventCreateWithFlags(&arrived, cudaEventDisableTiming), "event");
           uint64_t& number = links.number[shard];
           const size_t bytes = rows * 128 * sizeof(bf16);
           return measure(
               [&] {
                 const cudaStream_t stream = own_stream();
                 check(cudaEventRecord(ready, stream), "event");
                 check(cudaStreamWaitEvent(travel, ready), "event");
                 link.step({number++, arena.data, bytes, arena.data + rows * 128, bytes}, travel);
                 check(cudaEventRecord(arrived, travel), "event");
                 PrefillAttention hop = a;
                 hop.lists.near = {here.data, count.data, n, 0};
                 hop.o32 = partial.data;
                 prefill_attention(hop, stream);
                 check(cudaStreamWaitEvent(stream, arrived), "event");
                 hop = a;
                 hop.lists.near = {there.data, count.data, n, static_cast<int32_t>(rows)};
                 hop.o_before = partial.data;
                 hop.lse_before = lse.data;
                 hop.o = o.data;
                 prefill_attention(hop, stream);
               },
               [&] { link.finish(own_stream()); }, attention_flops(tokens) / 6e14 / kShards);
         })
      .longest;
}

// Of `bytes` both ways at once.
double transfer(const Way& way, size_t bytes) {
  Links& links = Links::of(way);
  return on_both([&](int shard) {
           RingLink& link = links.at(shard);
           Memory<char> from(bytes), to(bytes);
           uint64_t& number = links.number[shard];
           return measure(
               [&] {
                 link.step({number++, from.data, bytes, to.data, bytes}, own_stream());
               },
               [&] { link.finish(own_stream()); }, 20e-6 + bytes / 3e11);
         })
      .longest;
}

// An exchange of a decode step's partial results, and their merge.
double exchange(const Way& way) {
  Links& links = Links::of(way);
  return on_both([&](int shard) {
           RingLink& link = links.at(shard);
           Memory<float> part(std::vector(kPart, 0.0f));
           Memory<bf16> o(kWidth);
           RingMerge merge;
           merge.shape = kLlama;
           merge.rows = 1;
           merge.o = part.data;
           merge.lse = part.data + kWidth;
           merge.merged = o.data;
           return measure([&] { link.merge(merge, own_stream()); },
                          [&] { link.finish(own_stream()); }, 20e-6);
         })
      .longest;
}

// A decode step of one sequence; way null: on one GPU.
double decode(int64_t tokens, const Way* way) {
  Links* const links = way ? &Links::of(*way) : nullptr;
  ring::Placement placement(way ? kShards : 1, kUnit);
  placement.append(tokens);
  const Both both = on_both([&](int shard) {
    const auto refs = refs_of(placement.blocks_of(way ? shard : 0));
    const auto n = static_cast<int32_t>(refs.size());
    Memory<KvRef> list(refs);
    Memory<int32_t> count(std::vector{n});
    Lists lists;
    lists.near = {list.data, count.data, n, 0};
    Memory<Lists> rows(std::vector{lists});
    Memory<Band> band(std::vector{Band{}});
    Memory<int64_t> position(std::vector{tokens - 1});
    Normals arena(n * kBlockRows * 128, 1 + shard), q(kWidth, 3);
    Memory<bf16> o(kWidth);
    Memory<float> lse(32), scratch(decode_attention_scratch(kLlama, 1, n));
    Memory<float> part(kPart);
    RingDecode a;
    a.local.shape = kLlama;
    a.local.unit = kUnit;
    a.local.arena = {arena.data, n * kBlockRows};
    a.local.rows = 1;
    a.local.q_near = a.local.q_far = q.data;
    a.local.position = position.data;
    a.local.lists = rows.data;
    a.local.max_near = n;
    a.local.near_band = a.local.far_band = band.data;
    a.local.scale = kScale;
    a.local.scratch = scratch.data;
    a.local.o = o.data;
    a.local.lse = lse.data;
    a.part = part.data;
    a.o = o.data;
    a.lse = lse.data;
    const double expected = 4096.0 * n * kUnit / 3e12;
    if (!way) {
      return measure([&] { decode_attention(a.local, own_stream()); }, wait_for_stream,
                     expected);
    }
    RingLink& link = links->at(shard);
    return measure([&] { ring_decode(a, link, own_stream()); },
                   [&] { link.finish(own_stream()); }, expected + 20e-6);
  });
  return way ? both.longest : both.mean;
}

void predict(const ring::Rates& rates) {
  std::printf(
      "\nmodel: attention %.0f TFLOP/s, a hop %.0f us more, link %.0f GB/s and %.0f us,\n"
      "       decode %.2f TB/s, an exchange %.0f us\n",
      rates.attention_flops * 1e-12, rates.hop_seconds * 1e6, rates.link_bytes * 1e-9,
      rates.link_seconds * 1e6, rates.memory_bytes * 1e-12, rates.gather_seconds * 1e6);
  const ring::AttentionShape shape{32, 8, 128, 2};
  std::printf("%-10s %7s %14s %11s %14s %11s\n", "tokens", "shards", "prefill ms", "efficiency",
              "decode ms", "of one GPU");
  for (double tokens : {131072.0, 1048576.0, 16777216.0}) {
    const double one = prefill_seconds(shape, rates, tokens, 0, 1);
    const double step = decode_seconds(shape, rates, tokens, 1, 1);
    for (int n : {2, 4, 8, 64, 1024}) {
      const double prefill = prefill_seconds(shape, rates, tokens, 0, n);
      const double decode = decode_seconds(shape, rates, tokens, 1, n);
      std::printf("%-10.0f %7d %14.3f %11.2f %14.3f %10.1fx\n", tokens, n, prefill * 1e3,
                  one / n / prefill, decode * 1e3, step / decode);
    }
  }
}

int run(bool all, bool nccl) {
  int devices = 0;
  check(cudaGetDeviceCount(&devices), "no device");
  if (devices < kShards) {
    std::fprintf(stderr, "cuda_ring_bench needs 2 GPUs, here are %d\n", devices);
    return 1;
  }
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0), "no device");
  std::printf("2 x %s\n\n%-22s %12s %12s %12s %12s\n", device.name, "transfer both ways",
              "4 KiB us", "1 MiB GB/s", "16 MiB GB/s", "256 MiB GB/s");
  std::vector<Way> ways = {
      {"copy engines"}, {"NCCL", true}, {"NCCL 16 blocks", true, 16}, {"NCCL 8 blocks", true, 8}};
  if (!nccl) ways.resize(1);
  ring::Rates rates;
  for (const Way& way : ways) {
    const double latency = transfer(way, 4096);
    const double large = (256 << 20) / transfer(way, 256 << 20);
    if (rates.link_bytes < large) rates.link_bytes = large, rates.link_seconds = latency;
    std::printf("%-22s %12.1f %12.0f %12.0f %12.0f\n", way.name.c_str(), latency * 1e6,
                (1 << 20) / transfer(way, 1 << 20) * 1e-9,
                (16 << 20) / transfer(way, 16 << 20) * 1e-9, large * 1e-9);
    std::fflush(stdout);
  }

  std::printf("\n%-22s %10s %12s %12s %12s\n", "causal prefill", "tokens", "ms", "TFLOP/s a GPU",
              "efficiency");
  const auto print = [](const std::string& name, int64_t tokens, double seconds, int shards,
                        double one) {
    std::printf("%-22s %10ld %12.3f %12.0f %12.3f\n", name.c_str(), static_cast<long>(tokens),
                seconds * 1e3, attention_flops(tokens) / shards / seconds * 1e-12,
                one / shards / seconds);
    std::fflush(stdout);
  };
  for (int64_t tokens : {16384, 65536, 131072, 262144}) {
    if (!all && tokens > 100000) break;
    const double one = one_gpu_prefill(tokens);
    print("one GPU", tokens, one, 1, one);
    double best = 1e9;
    for (const Way& way : ways) {
      if (tokens > 100000 && way.nccl && way.max_blocks != 16) continue;
      const double seconds = ring_prefill(tokens, way);
      best = std::min(best, seconds);
      print(way.name, tokens, seconds, kShards, one);
      const double striped = striped_prefill(tokens, way);
      best = std::min(best, striped);
      print(way.name + ", striped", tokens, striped, kShards, one);
    }
    // What the two hops of the shortest prompt take beside arithmetic.
    if (tokens == 16384) rates.hop_seconds = std::max(best - one / kShards, 0.0) / kShards;
    rates.attention_flops = attention_flops(tokens) / one;
  }

  constexpr int64_t kLong = 512 * 1024;
  std::printf("\n%-22s %10s %12s %12s %12s\n", "decode of one row", "tokens", "us", "of one GPU",
              "exchange us");
  const double one = decode(kLong, nullptr);
  std::printf("%-22s %10ld %12.1f\n", "one GPU", static_cast<long>(kLong), one * 1e6);
  for (const Way& way : ways) {
    const double seconds = decode(kLong, &way), alone = exchange(way);
    if (rates.gather_seconds == 0 || alone < rates.gather_seconds) rates.gather_seconds = alone;
    std::printf("%-22s %10ld %12.1f %11.2fx %12.1f\n", way.name.c_str(), static_cast<long>(kLong),
                seconds * 1e6, one / seconds, alone * 1e6);
    std::fflush(stdout);
  }
  rates.memory_bytes = 4096.0 * kLong / one;
  predict(rates);
  on_both([](int shard) {
    Links::leave(shard);
    return 0.0;
  });
  return 0;
}

}  // namespace
}  // namespace ringtide::kernels::cuda

int main(int argc, char** argv) {
  try {
    const std::string_view what = argc > 1 ? argv[1] : "";
    return ringtide::kernels::cuda::run(what != "short", what != "copy");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

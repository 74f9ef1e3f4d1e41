// Kernels of the GPU against the memory's rate: medians of replays of a graph, over buffers that do
// not fit into the cache. Usage: cuda_kernels_bench [PART], PART one of the names printed below.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/learn.h"
#include "kernels/cuda/lookup.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/weights.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr Heads kLlama{32, 8, 128};
constexpr int kDim = 128, kUnit = 128;
constexpr int kPlane = 8 * kUnit;
constexpr int64_t kRow = 32 * kDim;

template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t n) : n_(n) {
    check(cudaMalloc(&p_, n * sizeof(T)), "cudaMalloc");
    check(cudaMemset(p_, 0, n * sizeof(T)), "cudaMemset");
  }
  explicit Buffer(const std::vector<T>& v) : Buffer(static_cast<int64_t>(v.size())) { set(v); }
  Buffer(const Buffer&) = delete;
  ~Buffer() { cudaFree(p_); }
  operator T*() const { return p_; }
  T* data() const { return p_; }
  void set(const std::vector<T>& v) {
    check(cudaMemcpy(p_, v.data(), v.size() * sizeof(T), cudaMemcpyDefault), "set");
  }
  int64_t size() const { return n_; }

 private:
  int64_t n_;
  T* p_ = nullptr;
};

// Four vectors a thread.
__global__ void copy_vectors(const int4* from, int4* to) {
  const int64_t at = int64_t{blockIdx.x} * 1024 + threadIdx.x;
  int4 x[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = from[at + i * 256];
#pragma unroll
  for (int i = 0; i < 4; ++i) to[at + i * 256] = x[i];
}

class Bench {
 public:
  Bench() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }

  // Median microseconds of one call of body(i, stream); a graph has `calls` of them.
  double time(int calls, const std::function<void(int, cudaStream_t)>& body) {
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    body(0, stream_);
    check(cudaStreamSynchronize(stream_), "warm");
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < calls; ++i) body(i, stream_);
    check(cudaStreamEndCapture(stream_, &graph), "capture");
    check(cudaGraphInstantiate(&replay, graph, 0), "instantiate");
    cudaEvent_t start, stop;
    check(cudaEventCreate(&start), "event");
    check(cudaEventCreate(&stop), "event");
    std::vector<float> times;
    for (int i = 0; i < 13; ++i) {
      check(cudaEventRecord(start, stream_), "record");
      check(cudaGraphLaunch(replay, stream_), "launch");
      check(cudaEventRecord(stop, stream_), "record");
      check(cudaStreamSynchronize(stream_), "run");
      float ms = 0;
      check(cudaEventElapsedTime(&ms, start, stop), "elapsed");
      if (i >= 3) times.push_back(ms * 1000 / static_cast<float>(calls));
    }
    std::sort(times.begin(), times.end());
    cudaGraphExecDestroy(replay);
    cudaGraphDestroy(graph);
    cudaEventDestroy(start);
    cudaEventDestroy(stop);
    return times[times.size() / 2];
  }
  static void report(const std::string& what, double us, double bytes) {
    std::printf("%-44s %9.1f us  %7.0f GB/s\n", what.c_str(), us, bytes / us / 1000);
    std::fflush(stdout);
  }

  void copy() {
    const int64_t n = int64_t{1} << 30;
    Buffer<std::byte> a(n), b(n);
    double us = time(4, [&](int, cudaStream_t s) {
      check(cudaMemcpyAsync(b, a, n, cudaMemcpyDeviceToDevice, s), "copy");
    });
    report("copy of 1 GiB, cudaMemcpyAsync (read + write)", us, 2.0 * n);
    us = time(4, [&](int, cudaStream_t s) {
      copy_vectors<<<n / 16 / 1024, 256, 0, s>>>(reinterpret_cast<const int4*>(a.data()),
                                                 reinterpret_cast<int4*>(b.data()));
    });
    report("copy of 1 GiB, a kernel (read + write)", us, 2.0 * n);
  }

  void few_rows_rate() {
    struct Matrix {
      int64_t n, k;
    };
    const int64_t most = int64_t{128256} * 4096;
    Buffer<bf16> w(most * 2), x(kFewRows * 14336);
    Buffer<float> y32(kFewRows * 128256), scratch(few_rows_scratch(6144, 14336) * 4);
    Buffer<bf16> y(kFewRows * 128256);
    fill_normal(w, w.size(), 0.02f, 1, stream_);
    fill_normal(x, x.size(), 1, 2, stream_);
    for (const auto& [n, k] : {Matrix{6144, 4096},
                               {4096, 4096},
                               {28672, 4096},
                               {4096, 14336},
                               {128256, 4096},
                               {960, 576},
                               {1536, 576},
                               {576, 1536},
                               {49152, 576}}) {
      const int copies = static_cast<int>(std::clamp<int64_t>(w.size() / (n * k), 1, 32));
      for (const int m : {1, 8, 16, 32, 64}) {
        // As decoding uses them: logits are float32, and so is the sum that the rest adds to.
        const bool logits = n > 40000, adds = n == 4096 || (n == 576 && k > 576);
        const double us = time(copies, [&](int i, cudaStream_t s) {
          few_rows(
              {x, w + i * n * k, m, n, k, logits || adds ? nullptr : y.data(),
               logits || adds ? y32.data() : nullptr, adds ? Write::Add : Write::Replace, scratch},
              s);
        });
        report("few_rows " + std::to_string(n) + " x " + std::to_string(k) + ", m " +
                   std::to_string(m),
               us, 2.0 * static_cast<double>(n) * static_cast<double>(k));
      }
    }
  }

  void decode_rate() {
    struct Case {
      int rows;
      int64_t tokens;
    };
    const int64_t planes = int64_t{2} * 8192 + 8192;
    Buffer<bf16> arena(planes * kPlane * kDim);
    fill_normal(arena, arena.size(), 1, 3, stream_);
    for (const auto& [rows, tokens] : {Case{1, 4096},
                                       {1, 8192},
                                       {1, 32768},
                                       {1, 131072},
                                       {1, 1 << 20},
                                       {64, 2048},
                                       {8, 8192},
                                       {64, 6144}}) {
      const int blocks = static_cast<int>(tokens / kUnit);
      // Several sets, so that the cache does not hold what the next call reads.
      const int sets =
          static_cast<int>(std::clamp<int64_t>(planes / (int64_t{2} * blocks * rows), 1, 16));
      std::vector<KvRef> refs;
      for (int64_t i = 0; i < int64_t{sets} * rows * blocks; ++i) {
        // Scattered: an odd multiplier visits each place once.
        const int64_t place = i * 5 % (int64_t{sets} * rows * blocks | 1) % (planes / 2);
        refs.push_back({static_cast<int32_t>(2 * place * kPlane),
                        static_cast<int32_t>((2 * place + 1) * kPlane), 0, kUnit,
                        i % blocks * kUnit});
      }
      Buffer<KvRef> drefs(refs);
      Buffer<int32_t> count(std::vector<int32_t>(1, blocks));
      std::vector<Lists> lists;
      for (int i = 0; i < sets * rows; ++i)
        lists.push_back({{drefs + int64_t{i} * blocks, count, blocks, 0}, {}, {}});
      Buffer<Lists> dlists(lists);
      Buffer<int64_t> position(std::vector<int64_t>(rows, tokens));
      Buffer<Band> band(std::vector<Band>(rows, Band{}));
      Buffer<bf16> q(rows * kRow), o(rows * kRow);
      fill_normal(q, q.size(), 1, 4, stream_);
      Buffer<float> scratch(decode_attention_scratch(kLlama, rows, blocks));
      const double us = time(sets, [&](int i, cudaStream_t s) {
        decode_attention({kLlama,
                          kUnit,
                          {arena, planes * kPlane},
                          rows,
                          q,
                          q,
                          position,
                          dlists + i * rows,
                          blocks,
                          0,
                          0,
                          0,
                          band,
                          band,
                          0.088f,
                          o,
                          nullptr,
                          nullptr,
                          scratch},
                         s);
      });
      report("decode_attention " + std::to_string(rows) + " x " + std::to_string(tokens), us,
             static_cast<double>(rows) * static_cast<double>(tokens) * 4096);
    }
  }

  void lookup_rate() {
    const int units = 8192, layers = 8, select = 16, slots = 32;
    const int64_t group = int64_t{layers} * kIndexGroup * kRow;
    Buffer<bf16> index(units / kIndexGroup * group), q(64 * kRow);
    fill_normal(index, index.size(), 0.3f, 5, stream_);
    fill_normal(q, q.size(), 1, 6, stream_);
    std::vector<const bf16*> groups;
    for (int g = 0; g < units / kIndexGroup; ++g) groups.push_back(index + g * group);
    Buffer<const bf16*> dgroups(groups);

    const int64_t chunk = int64_t{2} * kPlane * kDim * 2;  // bytes: 512 KiB
    const int held = 256;
    std::byte* pinned = nullptr;
    check(cudaMallocHost(&pinned, held * chunk), "pinned");
    std::memset(pinned, 1, static_cast<size_t>(held * chunk));
    std::vector<const std::byte*> payload;
    for (int u = 0; u < units; ++u) payload.push_back(pinned + u % held * chunk);
    Buffer<const std::byte*> dpayload(payload);
    Buffer<bf16> arena(int64_t{slots} * 2 * kPlane * kDim);
    Buffer<int32_t> slot_unit(std::vector<int32_t>(slots, -1));
    Buffer<int64_t> slot_used(slots), tick(1);
    Buffer<Slots> dslots(std::vector<Slots>{{slot_unit, slot_used, 0, slots}});
    Buffer<int32_t> chosen(64 * select), counts(64), missing(64 * select);
    Buffer<KvRef> refs(64 * select);
    Buffer<LookupCounts> totals(64);
    Buffer<float> scratch(lookup_scratch(kLlama, 64, units, select));
    Lookup a;
    a.shape = kLlama;
    a.unit = kUnit;
    a.layers = 1;
    a.q = q;
    a.slots = dslots;
    a.max_select = select;
    a.tick = tick;
    a.scratch = scratch;
    a.chosen = chosen;
    a.refs = refs;
    a.counts = counts;
    a.missing = missing;
    a.totals = totals;
    a.arena = {arena, int64_t{slots} * 2 * kPlane};
    for (const auto& [rows, sealed] : {std::pair{1, 8192}, {1, 1024}, {1, 128}, {16, 1024}}) {
      Buffer<Memory> memory(std::vector<Memory>(rows, {dgroups, sealed, 0, select, dpayload, 4}));
      a.rows = rows;
      a.memory = memory;
      a.max_sealed = sealed;
      const double us = time(layers, [&](int i, cudaStream_t s) {
        Lookup one = a;
        one.layers = layers;
        one.layer = i;
        choose_units(one, s);
      });
      report("choose_units " + std::to_string(rows) + " x " + std::to_string(sealed), us,
             2.0 * rows * sealed * kRow);
    }
    Buffer<Memory> memory(std::vector<Memory>(1, {dgroups, units, 0, select, dpayload, 4}));
    a.rows = 1;
    a.memory = memory;
    a.max_sealed = units;
    constexpr int kCalls = 64;
    for (const int n : {16, 4, 1, 0}) {
      // Lists of units that no earlier call of the graph left in a slot.
      std::vector<int32_t> lists;
      for (int i = 0; i < kCalls; ++i)
        for (int j = 0; j < select; ++j) lists.push_back(j < n ? i * n + j : -1);
      Buffer<int32_t> dlists(lists);
      const double us = time(kCalls, [&](int i, cudaStream_t s) {
        Lookup one = a;
        one.chosen = dlists + i * select;
        assign_slots(one, s);
        fetch_units(one, s);
      });
      report("assign_slots, fetch_units, " + std::to_string(n) + " missing", us,
             static_cast<double>(n) * static_cast<double>(chunk));
    }
    cudaFreeHost(pinned);
  }

  void learn_rate() {
    const int layers = 32, whole = 31, layer_rows = 3 * kPlane;
    Buffer<bf16> arena(int64_t{layers} * layer_rows * 2 * kDim), q(512 * kRow);
    fill_normal(arena, arena.size(), 1, 7, stream_);
    fill_normal(q, q.size(), 1, 8, stream_);
    Buffer<float> query_sums(64 * kRow), logit_sums(int64_t{128} * 32 * kUnit);
    for (const auto& [runs, each] : {std::pair{4, 128}, {1, 1}, {16, 1}, {64, 1}}) {
      std::vector<LearnRun> list;
      for (int i = 0; i < runs; ++i)
        list.push_back({i * each, (i + 1) * each, 4096, query_sums + i * kRow, 0, kUnit, 4096,
                        logit_sums + i * 32 * kUnit, kPlane, 0,
                        logit_sums + (64 + i) * 32 * kUnit});
      Buffer<LearnRun> dlist(list);
      Learn a;
      a.shape = kLlama;
      a.unit = kUnit;
      a.arena = {arena, 2 * layers * layer_rows};
      a.q = q;
      a.runs = dlist;
      a.run_count = runs;
      a.window = 4096;
      a.scale = 0.088f;
      a.max_queries = each;
      const double us = time(16, [&](int, cudaStream_t s) { learn(a, s); });
      report("learn " + std::to_string(runs) + " runs of " + std::to_string(each), us, 0);
    }
    Buffer<int32_t> begin(std::vector<int32_t>{0, 512}), angle(1);
    Buffer<float> cos(64), sin(64);
    Buffer<bf16> mean(kRow), group(int64_t{layers} * kIndexGroup * kRow);
    double us = time(16, [&](int, cudaStream_t s) {
      mean_query(kLlama, q, begin, angle, 1, cos, sin, mean, s);
    });
    report("mean_query of 512", us, 512.0 * kRow * 2);
    Buffer<float> sums(whole * layers * kRow), out(layers * kRow),
        scores(int64_t{layers} * 32 * kUnit);
    std::vector<const float*> pages;
    for (int i = 0; i < whole; ++i) pages.push_back(sums + i * layers * kRow);
    Buffer<const float*> dpages(pages);
    Represent r{kLlama, kUnit,  layers,     {arena, 2 * layers * layer_rows},
                0,      kPlane, layer_rows, 0,
                layers, scores, scores,     dpages,
                whole,  0.088f, 4,          0,
                out,    group,  0};
    us = time(8, [&](int, cudaStream_t s) { represent(r, s); });
    report("represent 32 layers", us, 4.0 * whole * layers * kRow + 2.0 * layers * kPlane * kDim);
  }

  void elementwise_rate() {
    const int64_t hidden = 4096, most = 8192;
    Buffer<float> x(most * hidden), weight(hidden);
    Buffer<bf16> y(most * hidden), qkv(most * 6144), q(most * kRow), far(most * kRow),
        arena(int64_t{3} * 64 * kPlane * kDim), wide(most * 28672), narrow(most * 14336);
    fill_normal(qkv, qkv.size(), 1, 9, stream_);
    fill_normal(wide, wide.size(), 1, 9, stream_);
    std::vector<TokenPlace> places;
    for (int32_t r = 0; r < most; ++r) {
      const int32_t row = 3 * (r / kUnit) * kPlane + r % kUnit;
      places.push_back({row, row + kPlane, row + 2 * kPlane, r, 4095});
    }
    Buffer<TokenPlace> place(places);
    Buffer<float> cos(most * 64), sin(most * 64);
    for (const int64_t rows : {int64_t{1}, int64_t{64}, most}) {
      const auto name = [&](const char* what) { return what + (" " + std::to_string(rows)); };
      double us =
          time(16, [&](int, cudaStream_t s) { rms_norm(x, weight, 1e-5f, rows, hidden, y, s); });
      report(name("rms_norm 4096, rows"), us, 6.0 * static_cast<double>(rows * hidden));
      us = time(16, [&](int, cudaStream_t s) {
        split_qkv({kLlama,
                   kUnit,
                   {arena, int64_t{3} * 64 * kPlane},
                   qkv,
                   nullptr,
                   nullptr,
                   nullptr,
                   0,
                   cos,
                   sin,
                   place,
                   0,
                   rows,
                   q,
                   far,
                   nullptr},
                  s);
      });
      report(name("split_qkv, rows"), us,
             2.0 * static_cast<double>(rows) * (6144 + 2 * kRow + 3 * 1024));
      us = time(16,
                [&](int, cudaStream_t s) { gate_mul(wide, rows, 14336, Gate::Silu, narrow, s); });
      report(name("gate_mul 14336, rows"), us, 6.0 * static_cast<double>(rows) * 14336);
    }
    const int vocabulary = 128256;
    Buffer<bf16> noise(64 * int64_t{vocabulary});
    fill_normal(noise, noise.size(), 4, 10, stream_);
    std::vector<bf16> host(64 * int64_t{vocabulary});
    check(cudaMemcpy(host.data(), noise, host.size() * 2, cudaMemcpyDefault), "noise");
    std::vector<float> values;
    for (const bf16 v : host) values.push_back(__bfloat162float(v));
    Buffer<float> logits(values), scratch(sample_scratch(64, vocabulary));
    Buffer<int32_t> token(64);
    const std::pair<const char*, SampleRow> settings[] = {
        {"greedy", {}},
        {"top-p 0.95", {1, 0, 0.95f, 0, 1, 0.5, nullptr, 0}},
        {"top-k 40, top-p 0.95", {0.8f, 40, 0.95f, 0, 1, 0.5, nullptr, 0}}};
    for (const auto& [name, row] : settings) {
      for (const int rows : {1, 64}) {
        Buffer<SampleRow> list(std::vector<SampleRow>(rows, row));
        const double us = time(8, [&](int, cudaStream_t s) {
          sample(logits, rows, vocabulary, list, token, scratch, s);
        });
        report("sample 128256, " + std::string(name) + ", rows " + std::to_string(rows), us,
               4.0 * rows * vocabulary);
      }
    }
  }

 private:
  cudaStream_t stream_;
};

}  // namespace
}  // namespace ringtide::kernels::cuda

int main(int argc, char** argv) {
  using ringtide::kernels::cuda::Bench;
  const std::pair<const char*, void (Bench::*)()> parts[] = {
      {"copy", &Bench::copy},          {"few_rows", &Bench::few_rows_rate},
      {"decode", &Bench::decode_rate}, {"lookup", &Bench::lookup_rate},
      {"learn", &Bench::learn_rate},   {"elementwise", &Bench::elementwise_rate}};
  try {
    Bench bench;
    for (const auto& [name, part] : parts) {
      if (argc > 1 && std::string(argv[1]) != name) continue;
      std::printf("%s\n", name);
      (bench.*part)();
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cuda_kernels_bench: %s\n", e.what());
    return 1;
  }
}

// Speeds of the kernels beside what the machine can do at best: fused multiply-adds in registers
// and reads of memory. Shapes are those of a small model (hidden 576, 9 heads, 3 KV heads of 64).
//
// Prints the best of several runs, since other work on the machine only ever slows one down.
// Last come the greatest errors of products, by type of weights and activations, relative to the
// sum of magnitudes. Usage: kernels_bench [threads [part of a name [AVX2 or another target]]], or
// kernels_bench cpu: one thread, timed by the processor time it took, for a machine that is not
// quiet.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/instruction_set.h"
#include "kernels/matmul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/kernels_bench.cc"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;

// `n` rounds of twelve independent chains; returns the floating-point operations done.
double chains(int64_t n, float* out) {
  const D d;
  const auto a = hn::Set(d, 0.999f), b = hn::Set(d, 0.001f);
  const auto start = [&](float x) HWY_ATTR { return hn::Set(d, x); };
  auto c0 = start(0), c1 = start(1), c2 = start(2), c3 = start(3), c4 = start(4), c5 = start(5),
       c6 = start(6), c7 = start(7), c8 = start(8), c9 = start(9), c10 = start(10), c11 = start(11);
  for (int64_t i = 0; i < n; ++i) {
    c0 = hn::MulAdd(c0, a, b), c1 = hn::MulAdd(c1, a, b), c2 = hn::MulAdd(c2, a, b);
    c3 = hn::MulAdd(c3, a, b), c4 = hn::MulAdd(c4, a, b), c5 = hn::MulAdd(c5, a, b);
    c6 = hn::MulAdd(c6, a, b), c7 = hn::MulAdd(c7, a, b), c8 = hn::MulAdd(c8, a, b);
    c9 = hn::MulAdd(c9, a, b), c10 = hn::MulAdd(c10, a, b), c11 = hn::MulAdd(c11, a, b);
  }
  const auto sum = hn::Add(
      hn::Add(hn::Add(hn::Add(c0, c1), hn::Add(c2, c3)), hn::Add(hn::Add(c4, c5), hn::Add(c6, c7))),
      hn::Add(hn::Add(c8, c9), hn::Add(c10, c11)));
  *out = hn::GetLane(hn::SumOfLanes(d, sum));
  return 2.0 * 12 * n * hn::Lanes(d);
}

double read_sum(const float* p, int64_t n) {
  const D d;
  const int64_t step = hn::Lanes(d);
  auto a = hn::Zero(d), b = a, c = a, e = a;
  for (int64_t i = 0; i + 4 * step <= n; i += 4 * step) {
    a = hn::Add(a, hn::LoadU(d, p + i));
    b = hn::Add(b, hn::LoadU(d, p + i + step));
    c = hn::Add(c, hn::LoadU(d, p + i + 2 * step));
    e = hn::Add(e, hn::LoadU(d, p + i + 3 * step));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {
namespace {

HWY_EXPORT(chains);
HWY_EXPORT(read_sum);

volatile double sink;

clockid_t clock_id = CLOCK_MONOTONIC;

double now(clockid_t id) {
  timespec t;
  clock_gettime(id, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// Seconds of the fastest of several calls.
template <class F>
double best(F&& f) {
  double least = 1e9;
  const double stop = now(CLOCK_MONOTONIC) + 0.5;
  for (int i = 0; i < 5 || now(CLOCK_MONOTONIC) < stop; ++i) {
    const double start = now(clock_id);
    f();
    least = std::min(least, now(clock_id) - start);
  }
  return least;
}

std::vector<float> randoms(int64_t n) {
  std::minstd_rand random(1);
  std::vector<float> v(n);
  for (float& x : v) x = static_cast<float>(random() % 2001) / 1000 - 1;
  return v;
}

std::string_view wanted;  // part of the names of what runs
double peak_flops, peak_bytes;

void measure_peaks(ThreadPool& threads) {
  constexpr int64_t kRounds = 1 << 18;
  double flops = 0;
  const double compute = best([&] {
    threads.parallel_for(threads.size(), [&](int64_t i, int) {
      float out;
      const double done = HWY_DYNAMIC_DISPATCH(chains)(kRounds, &out);
      if (i == 0) flops = done;
      sink = out;
    });
  });
  peak_flops = flops * threads.size() / compute;
  constexpr int64_t kPart = 1 << 18, kParts = 512;  // floats: 512 MiB, more than the caches
  const std::vector<float> memory(kPart * kParts, 1);
  const double reading = best([&] {
    threads.parallel_for(kParts, [&](int64_t i, int) {
      sink = HWY_DYNAMIC_DISPATCH(read_sum)(memory.data() + i * kPart, kPart);
    });
  });
  peak_bytes = kPart * kParts * 4.0 / reading;
  std::printf("%s, %d threads: %.0f GFLOP/s of float32 multiply-adds, %.1f GB/s of reads\n\n",
              instruction_set().c_str(), threads.size(),
              peak_flops / 1e9, peak_bytes / 1e9);
}

void print(const char* what, double seconds, double flops, double bytes) {
  std::printf("%-38s %10.1f us %8.1f GFLOP/s %4.0f %% %8.1f GB/s %4.0f %%\n", what, seconds * 1e6,
              flops / seconds / 1e9, 100 * flops / seconds / peak_flops, bytes / seconds / 1e9,
              100 * bytes / seconds / peak_bytes);
}

// Several copies of a matrix, so that decoding reads memory and not a cache.
void bench_matmul(TensorType type, int64_t n, int64_t k, ThreadPool& threads,
                  ActivationType activations = ActivationType::F32) {
  constexpr const char* kActivations[] = {"", " int16", " int8"};
  char name[64];
  std::snprintf(name, sizeof name, "matmul %s%s %ld x %ld", type_info(type).name.data(),
                kActivations[static_cast<int>(activations)], n, k);
  if (std::string_view(name).find(wanted) == std::string_view::npos) return;
  std::vector<std::byte> rows(n * row_bytes(type, k), std::byte{0x11});
  const int64_t bytes = packed_bytes(type, n, k);
  for (const int64_t m : {1, 2, 4, 8, 64, 512}) {
    const int64_t copies = m <= 4 ? std::max<int64_t>(1, (int64_t{96} << 20) / bytes) : 1;
    std::vector<std::byte> memory(copies * bytes + 64);
    std::byte* at = memory.data() + (-reinterpret_cast<uintptr_t>(memory.data()) & 63);
    std::vector<PackedMatrix> copy;
    for (int64_t c = 0; c < copies; ++c) {
      copy.push_back(pack(type, rows.data(), n, k, {}, at + c * bytes, threads));
      copy.back().activations = activations;
    }
    const std::vector<float> x = randoms(m * k);
    std::vector<float> y(m * n);
    const double seconds = best([&] {
      for (const PackedMatrix& w : copy) matmul(x.data(), m, w, y.data(), Write::Replace, threads);
    });
    char what[80];
    std::snprintf(what, sizeof what, "%s, m %ld", name, m);
    print(what, seconds / copies, 2.0 * m * n * k, bytes);
  }
}

// Random weights and activations of a normal distribution; `type` is coded or BF16.
void print_errors(TensorType type, ThreadPool& threads) {
  constexpr int64_t n = 64, k = 2048, m = 16;
  std::minstd_rand random(1);
  std::normal_distribution<float> normal;
  std::vector<std::byte> rows(n * row_bytes(type, k));
  for (std::byte& b : rows) b = static_cast<std::byte>(random() >> 8 & 255);
  for (size_t at = 0; type == TensorType::BF16 && at < rows.size(); at += 2) {
    const float weight = normal(random);
    std::memcpy(&rows[at], reinterpret_cast<const std::byte*>(&weight) + 2, 2);
  }
  const int64_t block = type_info(type).block_bytes;
  // Halves with a small exponent in every place where the type has one, or may have.
  for (size_t at = 0; type != TensorType::BF16 && at < rows.size(); at += block) {
    for (const int64_t half : {int64_t{1}, int64_t{3}, int64_t{81}, block - 3, block - 1}) {
      if (half > 0 && half < block) rows[at + half] = (rows[at + half] & std::byte{0x83}) | std::byte{0x20};
    }
  }
  std::vector<float> weights(n * k), x(m * k), y(m * n);
  dequantize(type, rows.data(), n * k, weights.data());
  for (float& v : x) v = normal(random);
  std::vector<std::byte> memory(packed_bytes(type, n, k) + 64);
  std::byte* at = memory.data() + (-reinterpret_cast<uintptr_t>(memory.data()) & 63);
  PackedMatrix w = pack(type, rows.data(), n, k, {}, at, threads);
  std::printf("%-8s", type_info(type).name.data());
  for (const ActivationType a :
       {ActivationType::F32, ActivationType::Int16, ActivationType::Int8}) {
    w.activations = a;
    matmul(x.data(), m, w, y.data(), Write::Replace, threads);
    double worst = 0;
    for (int64_t i = 0; i < m * n; ++i) {
      double sum = 0, magnitude = 0;
      for (int64_t j = 0; j < k; ++j) {
        const double term = double{x[i / n * k + j]} * weights[i % n * k + j];
        sum += term;
        magnitude += std::abs(term);
      }
      worst = std::max(worst, std::abs(y[i] - sum) / magnitude);
    }
    std::printf(" %10.1e", worst);
  }
  std::printf("\n");
}

void bench_attention(KvType type, bool rotated, int64_t m, int32_t keys, ThreadPool& threads) {
  const HeadShape shape{9, 3, 64};
  const int64_t elements = int64_t{shape.kv_heads} * keys * shape.head_dim;
  const int64_t bytes = 2 * elements * kv_bytes(type);
  const int64_t layers = m == 1 ? std::max<int64_t>(1, (int64_t{96} << 20) / bytes) : 1;
  const std::vector<float> angle = randoms(int64_t{keys} * 32);
  const std::vector<float> values = randoms(elements);
  std::vector<std::byte> memory(layers * bytes);
  std::vector<KvBlock> blocks;
  for (int64_t l = 0; l < layers; ++l) {
    std::byte* k = memory.data() + l * bytes;
    to_kv(type, values.data(), elements, k);
    to_kv(type, values.data(), elements, k + bytes / 2);
    blocks.push_back({k, k + bytes / 2, type, keys, 0, keys, 0, {}, {}});
    if (rotated) blocks.back().start = blocks.back().steps = {angle.data(), angle.data()};
  }
  const std::vector<float> q = randoms(m * shape.heads * shape.head_dim);
  std::vector<float> o(q.size()), lse(m * shape.heads);
  const double seconds = best([&] {
    for (const KvBlock& block : blocks) {
      attend(shape, q.data(), keys, m, {&block, 1}, {}, 0.125f, o.data(), lse.data(), threads);
    }
  });
  char what[64];
  std::snprintf(what, sizeof what, "attend %s%s %d keys, m %ld",
                type == KvType::F16 ? "F16" : "F32", rotated ? " rotated" : "", keys, m);
  print(what, seconds / layers, 4.0 * m * shape.heads * shape.head_dim * keys, bytes);
}

void bench_small(ThreadPool& threads) {
  for (const int64_t m : {1, 512}) {
    std::vector<float> x = randoms(m * 1536), y = randoms(m * 1536);
    const std::vector<float> angle = randoms(m * 32);
    char what[64];
    std::snprintf(what, sizeof what, "rms_norm 576, m %ld", m);
    print(what, best([&] { rms_norm(x.data(), y.data(), 1e-5f, m, 576, y.data(), threads); }),
          4.0 * m * 576, 8.0 * m * 576);
    std::snprintf(what, sizeof what, "silu_mul 1536, m %ld", m);
    print(what, best([&] { silu_mul(x.data(), y.data(), m * 1536, threads); }), 20.0 * m * 1536,
          12.0 * m * 1536);
    std::snprintf(what, sizeof what, "rope 9 x 64, m %ld", m);
    print(what, best([&] {
            rope(x.data(), m, 9, 64, angle.data(), angle.data(), 32, y.data(), threads);
          }),
          3.0 * m * 576, 8.0 * m * 576);
  }
  std::vector<double> inv_freq(32, 0.1);
  std::vector<float> cos(512 * 32), sin(512 * 32);
  print("rope_angles 32, 512 positions",
        best([&] { rope_angles(inv_freq, 100000, 512, cos.data(), sin.data()); }), 0,
        8.0 * 512 * 32);
  print("empty loop", best([&] {
                        for (int i = 0; i < 1000; ++i)
                          threads.parallel_for(threads.size(), [](int64_t, int) {});
                      }) / 1000,
        0, 0);
}

}  // namespace
}  // namespace ringtide::kernels

int main(int argc, char** argv) {
  using namespace ringtide::kernels;
  const bool cpu = argc > 1 && std::string_view(argv[1]) == "cpu";
  if (argc > 2) wanted = argv[2];
  if (argc > 3 && !use_instruction_set(argv[3])) {
    std::fprintf(stderr, "kernels_bench: this processor has no %s\n", argv[3]);
    return 2;
  }
  if (cpu) clock_id = CLOCK_THREAD_CPUTIME_ID;
  const int all = static_cast<int>(std::thread::hardware_concurrency());
  const int threads = cpu ? 1 : argc > 1 ? std::atoi(argv[1]) : all;
  ThreadPool pool(threads);
  measure_peaks(pool);
  for (const ActivationType a :
       {ActivationType::F32, ActivationType::Int16, ActivationType::Int8}) {
    bench_matmul(TensorType::Q4_1, 1536, 576, pool, a);
    bench_matmul(TensorType::Q4_1, 192, 576, pool, a);
    for (const TensorType type :
         {TensorType::Q8_0, TensorType::Q4_0, TensorType::Q4_K, TensorType::Q6_K}) {
      bench_matmul(type, 2048, 2048, pool, a);
    }
  }
  bench_matmul(TensorType::BF16, 2048, 2048, pool, ActivationType::Int16);
  for (const TensorType type : {TensorType::F32, TensorType::F16, TensorType::BF16}) {
    bench_matmul(type, 2048, 2048, pool);
  }
  if (wanted.empty() || wanted == "attend") {
    for (const KvType type : {KvType::F16, KvType::F32}) {
      for (const bool rotated : {true, false}) {
        for (const int64_t m : {1, 16, 512}) bench_attention(type, rotated, m, 4096, pool);
      }
    }
    bench_small(pool);
  }
  if (!wanted.empty() && wanted != "errors") return 0;
  std::printf("\n%-8s %10s %10s %10s\n", "errors", "f32", "int16", "int8");
  print_errors(TensorType::BF16, pool);
  for (int i = static_cast<int>(TensorType::Q8_0); i < kTensorTypes; ++i) {
    print_errors(static_cast<TensorType>(i), pool);
  }
}
#endif  // HWY_ONCE

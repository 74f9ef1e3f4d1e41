#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gate_inl.cuh"
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/reduce_inl.cuh"
#include "kernels/cuda/vector_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Vectors of this many elements where a row is a multiple of it, single elements elsewhere.
constexpr int kWide = 8;
bool wide(int64_t row) { return row % kWide == 0; }
unsigned blocks(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

template <int N>
struct alignas(N % 4 == 0 ? 16 : 4) Floats {
  float v[N];
};

template <int N>
__global__ void embed_rows(const int32_t* tokens, const bf16* table, int64_t rows, int64_t hidden,
                           float scale, float* x) {
  after_previous();
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at >= rows * hidden) return;
  const int64_t r = at / hidden, i = at % hidden;
  Floats<N> out;
  load_floats(table + tokens[r] * hidden + i, out.v);
#pragma unroll
  for (float& f : out.v) f *= scale;
  *reinterpret_cast<Floats<N>*>(x + at) = out;
}

// One block a row, of a number of threads that follows from dim. What a thread has is kept between
// the sum and the scaling, as far as kKept vectors go.
constexpr int kKept = 2;
template <int N, int Threads>
__global__ void __launch_bounds__(Threads)
    norm_rows(const float* x, const float* weight, float eps, int64_t dim, bf16* y) {
  constexpr int kStep = Threads * N;
  const int64_t first = int64_t{threadIdx.x} * N;
  Floats<N> kept[kKept], weights[kKept];
#pragma unroll
  for (int i = 0; i < kKept; ++i)  // no kernel writes them
    if (first + i * kStep < dim)
      weights[i] = *reinterpret_cast<const Floats<N>*>(weight + first + i * kStep);
  before_previous_ends();
  x += blockIdx.x * dim;
  y += blockIdx.x * dim;
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kKept; ++i)
    if (first + i * kStep < dim)
      kept[i] = *reinterpret_cast<const Floats<N>*>(x + first + i * kStep);
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    if (first + i * kStep >= dim) break;
#pragma unroll
    for (const float f : kept[i].v) squares = fmaf(f, f, squares);
  }
  for (int64_t at = first + kKept * kStep; at < dim; at += kStep) {
    const Floats<N> v = *reinterpret_cast<const Floats<N>*>(x + at);
#pragma unroll
    for (const float f : v.v) squares = fmaf(f, f, squares);
  }
  const float mean = block_sum<Threads>(squares) / static_cast<float>(dim);
  const float factor = 1.0f / sqrtf(mean + eps);
  const auto put = [&](int64_t at, const Floats<N>& v, const Floats<N>& w) {
    float out[N];
#pragma unroll
    for (int j = 0; j < N; ++j) out[j] = v.v[j] * factor * w.v[j];
    store_bf16(y + at, out);
  };
#pragma unroll
  for (int i = 0; i < kKept; ++i)
    if (first + i * kStep < dim) put(first + i * kStep, kept[i], weights[i]);
  for (int64_t at = first + kKept * kStep; at < dim; at += kStep)
    put(at, *reinterpret_cast<const Floats<N>*>(x + at),
        *reinterpret_cast<const Floats<N>*>(weight + at));
}

template <int N>
__global__ void gate_rows(const bf16* x, int64_t rows, int64_t n, Gate gate, bf16* y) {
  after_previous();
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at >= rows * n) return;
  const bf16* from = x + at / n * 2 * n + at % n;
  float out[N], up[N];
  load_floats(from, out);
  load_floats(from + n, up);
#pragma unroll
  for (int j = 0; j < N; ++j) out[j] = activate(out[j], gate) * up[j];
  store_bf16(y + at, out);
}

__global__ void angles(const double* inv_freq, int32_t half, int64_t position, int64_t n,
                       float* cos_out, float* sin_out) {
  after_previous();
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= n * half) return;
  const double p = static_cast<double>(position + at / half), f = inv_freq[at % half];
  // At far positions the product's rounding error is a sizeable angle itself: turn by it, too.
  const double angle = p * f;
  const double rest = fma(p, f, -angle);
  double s, c;
  sincos(angle, &s, &c);
  const double square = rest * rest;
  const double cos_rest = 1 - square / 2 * (1 - square / 12);
  const double sin_rest = rest * (1 - square / 6);
  cos_out[at] = static_cast<float>(c * cos_rest - s * sin_rest);
  sin_out[at] = static_cast<float>(s * cos_rest + c * sin_rest);
}

}  // namespace

void embed(const int32_t* tokens, const bf16* table, int64_t rows, int64_t hidden, float scale,
           float* x, cudaStream_t stream) {
  const int64_t n = rows * hidden;
  if (n == 0) return;
  const bool by_vector = wide(hidden);
  launch("embed", by_vector ? embed_rows<kWide> : embed_rows<1>, blocks(by_vector ? n / kWide : n),
         kThreads, 0, stream, tokens, table, rows, hidden, scale, x);
}

void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t dim, bf16* y,
              cudaStream_t stream) {
  if (rows == 0 || dim == 0) return;
  const auto start = [&](auto n, auto threads) {
    launch("rms_norm", norm_rows<n(), threads()>, static_cast<unsigned>(rows), threads(), 0, stream,
           x, weight, eps, dim, y);
  };
  const auto by_size = [&](auto n) {
    if (dim <= kKept * 128 * n()) {
      start(n, std::integral_constant<int, 128>());
    } else if (dim <= kKept * 256 * n()) {
      start(n, std::integral_constant<int, 256>());
    } else {
      start(n, std::integral_constant<int, 512>());
    }
  };
  if (dim % 4 == 0) {
    by_size(std::integral_constant<int, 4>());
  } else {
    by_size(std::integral_constant<int, 1>());
  }
}

void gate_mul(const bf16* x, int64_t rows, int64_t n, Gate gate, bf16* y, cudaStream_t stream) {
  const int64_t all = rows * n;
  if (all == 0) return;
  const bool by_vector = wide(n);
  launch("gate_mul", by_vector ? gate_rows<kWide> : gate_rows<1>,
         blocks(by_vector ? all / kWide : all), kThreads, 0, stream, x, rows, n, gate, y);
}

void rope_angles(const double* inv_freq, int32_t half, int64_t position, int64_t n, float* cos,
                 float* sin, cudaStream_t stream) {
  if (n * half == 0) return;
  launch("rope_angles", angles, blocks(n * half), kThreads, 0, stream, inv_freq, half, position, n,
         cos, sin);
}

}  // namespace ringtide::kernels::cuda

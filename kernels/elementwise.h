// The small operations between matrix products: RMS norm, RoPE, gates, sums.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/threads.h"

namespace ringtide::kernels {

// y[r, i] = x[r, i] * weight[i] / sqrt(mean_i(x[r, i]^2) + eps), rows (rows, dim). x may be y.
void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t dim, float* y,
              ThreadPool& threads);

// gate[i] = silu(gate[i]) * up[i], silu(x) = x / (1 + exp(-x)).
void silu_mul(float* gate, const float* up, int64_t n, ThreadPool& threads);

// gate[i] = gelu(gate[i]) * up[i], in the tanh form: gelu(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x +
// 0.044715 x^3))) (arXiv 1606.08415).
void gelu_mul(float* gate, const float* up, int64_t n, ThreadPool& threads);

// x[r, i] += y[r, i], or += y[i] where y is one row for all (y_stride 0, else dim). x (rows, dim).
void add(float* x, const float* y, int64_t y_stride, int64_t rows, int64_t dim,
         ThreadPool& threads);

// cos, sin (n, half) of the angles (position + i) * inv_freq[j], i < n, j < half = inv_freq.size().
// Angles are taken in double, so that any position below 2^50 is exact to float32.
void rope_angles(std::span<const double> inv_freq, int64_t position, int64_t n, float* cos,
                 float* sin);

// Rotates x (rows, heads, head_dim) into y: the pair (x[j], x[j + head_dim/2]) by angle j of its
// row. cos, sin: (rows, head_dim/2), or one row for all where row_stride is 0 (else head_dim/2). x
// may be y.
void rope(const float* x, int64_t rows, int heads, int head_dim, const float* cos, const float* sin,
          int64_t row_stride, float* y, ThreadPool& threads);

}  // namespace ringtide::kernels

#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise.cc"
#include <hwy/foreach_target.h>
//
#include "kernels/simd_inl.h"

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

void norm_row(const float* x, const float* weight, float eps, int64_t dim, float* y) {
  constexpr int64_t kStep = kLanes;
  Vf squares = hn::Zero(Df());
  for (int64_t i = 0; i < dim; i += kStep) {
    const Vf v = load_up_to(x + i, dim - i);
    squares = hn::MulAdd(v, v, squares);
  }
  const float mean = sum_lanes(squares) / static_cast<float>(dim);
  const Vf factor = hn::Set(Df(), 1.f / std::sqrt(mean + eps));
  for (int64_t i = 0; i < dim; i += kStep) {
    const Vf scaled = hn::Mul(load_up_to(x + i, dim - i), factor);
    store_up_to(hn::Mul(scaled, load_up_to(weight + i, dim - i)), y + i, dim - i);
  }
}

void silu_mul_part(float* gate, const float* up, int64_t n) {
  const Vf one = hn::Set(Df(), 1.f);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Vf x = load_up_to(gate + i, n - i);
    const Vf silu = hn::Div(x, hn::Add(one, exp(hn::Neg(x))));
    store_up_to(hn::Mul(silu, load_up_to(up + i, n - i)), gate + i, n - i);
  }
}

// With u = sqrt(2 / pi) (x + 0.044715 x^3): (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u)).
void gelu_mul_part(float* gate, const float* up, int64_t n) {
  const Vf one = hn::Set(Df(), 1.f);
  const Vf linear = hn::Set(Df(), -1.5957691216057308f);  // -2 sqrt(2 / pi)
  const Vf cubic = hn::Set(Df(), -1.5957691216057308f * 0.044715f);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Vf x = load_up_to(gate + i, n - i);
    const Vf power = hn::Mul(x, hn::MulAdd(cubic, hn::Mul(x, x), linear));
    const Vf gelu = hn::Div(x, hn::Add(one, exp(power)));
    store_up_to(hn::Mul(gelu, load_up_to(up + i, n - i)), gate + i, n - i);
  }
}

void add_row(float* x, const float* y, int64_t dim) {
  for (int64_t i = 0; i < dim; i += kLanes) {
    store_up_to(hn::Add(load_up_to(x + i, dim - i), load_up_to(y + i, dim - i)), x + i, dim - i);
  }
}

// The pair (x[j], x[j + half]) by angle j; y may be x.
void rotate(const float* x, int64_t half, const float* cos, const float* sin, float* y) {
  for (int64_t j = 0; j < half; j += kLanes) {
    const size_t n = half - j;
    const Vf a = load_up_to(x + j, n);
    const Vf b = load_up_to(x + half + j, n);
    const Vf c = load_up_to(cos + j, n);
    const Vf s = load_up_to(sin + j, n);
    store_up_to(hn::NegMulAdd(b, s, hn::Mul(a, c)), y + j, n);
    store_up_to(hn::MulAdd(a, s, hn::Mul(b, c)), y + half + j, n);
  }
}

void rope_heads(const float* x, int heads, int head_dim, const float* cos, const float* sin,
                float* y) {
  for (int h = 0; h < heads; ++h)
    rotate(x + h * head_dim, head_dim / 2, cos, sin, y + h * head_dim);
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {
namespace {

HWY_EXPORT(norm_row);
HWY_EXPORT(silu_mul_part);
HWY_EXPORT(gelu_mul_part);
HWY_EXPORT(add_row);
HWY_EXPORT(rope_heads);

// Elements that are worth a thread's attention.
constexpr int64_t kGrain = 4096;

// Calls body(begin, end) over [0, rows) in parts of about kGrain elements.
template <class F>
void for_rows(int64_t rows, int64_t elements, ThreadPool& threads, const F& body) {
  const int64_t step = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, elements));
  threads.parallel_for((rows + step - 1) / step, [&](int64_t part, int) {
    body(part * step, std::min(rows, (part + 1) * step));
  });
}

}  // namespace

void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t dim, float* y,
              ThreadPool& threads) {
  for_rows(rows, dim, threads, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(norm_row)(x + r * dim, weight, eps, dim, y + r * dim);
    }
  });
}

void silu_mul(float* gate, const float* up, int64_t n, ThreadPool& threads) {
  for_rows(n, 1, threads, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(silu_mul_part)(gate + begin, up + begin, end - begin);
  });
}

void gelu_mul(float* gate, const float* up, int64_t n, ThreadPool& threads) {
  for_rows(n, 1, threads, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(gelu_mul_part)(gate + begin, up + begin, end - begin);
  });
}

void add(float* x, const float* y, int64_t y_stride, int64_t rows, int64_t dim,
         ThreadPool& threads) {
  for_rows(rows, dim, threads, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(add_row)(x + r * dim, y + r * y_stride, dim);
    }
  });
}

void rope_angles(std::span<const double> inv_freq, int64_t position, int64_t n, float* cos,
                 float* sin) {
  for (int64_t i = 0; i < n; ++i) {
    const double p = static_cast<double>(position + i);
    for (const double f : inv_freq) {
      // At far positions the product's rounding error is a sizeable angle itself: turn by it, too.
      const double angle = p * f;
      const double rest = std::fma(p, f, -angle);
      const double c = std::cos(angle), s = std::sin(angle);
      const double square = rest * rest;
      const double cos_rest = 1 - square / 2 * (1 - square / 12);
      const double sin_rest = rest * (1 - square / 6);
      *cos++ = static_cast<float>(c * cos_rest - s * sin_rest);
      *sin++ = static_cast<float>(s * cos_rest + c * sin_rest);
    }
  }
}

void rope(const float* x, int64_t rows, int heads, int head_dim, const float* cos, const float* sin,
          int64_t row_stride, float* y, ThreadPool& threads) {
  const int64_t row = static_cast<int64_t>(heads) * head_dim;
  for_rows(rows, row, threads, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(rope_heads)
      (x + r * row, heads, head_dim, cos + r * row_stride, sin + r * row_stride, y + r * row);
    }
  });
}

}  // namespace ringtide::kernels
#endif  // HWY_ONCE

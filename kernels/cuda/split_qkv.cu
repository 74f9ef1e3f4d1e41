#include "kernels/cuda/by_head_dim.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/rotate_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;

// One warp a head of a row: query heads, then keys, then values, as they lie in qkv.
template <int Dim>
__global__ void __launch_bounds__(kThreads) split(const Qkv a) {
  after_previous();
  const int heads = a.shape.heads, kv_heads = a.shape.kv_heads, all = heads + 2 * kv_heads;
  const int64_t task = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (task >= a.rows * all) return;
  const int64_t r = task / all;
  const int h = static_cast<int>(task % all);
  const TokenPlace place = a.place[r];
  const auto cos = [&](int32_t angle) { return a.cos + int64_t{angle} * (Dim / 2); };
  const auto sin = [&](int32_t angle) { return a.sin + int64_t{angle} * (Dim / 2); };
  const auto arena = [&](int32_t row, int kv_head) {
    return a.arena.base + (int64_t{row} + a.row_offset + int64_t{kv_head} * a.unit) * Dim;
  };

  HeadVector<Dim> x;
  x.load(a.qkv + task * Dim);
  if (a.bias) x.add(a.bias + h * Dim);
  if (h < heads) {
    if (a.q_norm) x.normalise(a.q_norm, a.norm_eps);
    const int64_t to = (r * heads + h) * Dim;
    if (a.q_raw) x.store(a.q_raw + to);
    x.rotated(cos(place.near_angle), sin(place.near_angle)).store(a.q_near + to);
    if (a.q_far) x.rotated(cos(place.far_angle), sin(place.far_angle)).store(a.q_far + to);
    if (a.q_lookup) {
      x.round();
      x.rotated(cos(a.lookup_angle[r]), sin(a.lookup_angle[r])).store(a.q_lookup + to);
    }
  } else if (h < heads + kv_heads) {
    if (a.k_norm) x.normalise(a.k_norm, a.norm_eps);
    // Of the key as it is kept: rotate_plane() of what is kept gives the same bits.
    x.round();
    const int g = h - heads;
    if (place.raw_row >= 0) x.store(arena(place.raw_row, g));
    if (place.rotated_row >= 0)
      x.rotated(cos(place.near_angle), sin(place.near_angle)).store(arena(place.rotated_row, g));
  } else if (place.v_row >= 0) {
    x.store(arena(place.v_row, h - heads - kv_heads));
  }
}

// One warp a key.
template <int Dim>
__global__ void __launch_bounds__(kThreads)
    rotate_keys(int rows, int unit, Arena arena, int32_t src_row, int32_t dst_row, const float* cos,
                const float* sin, int32_t angle) {
  after_previous();
  const int row = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x / 32);
  if (row >= rows) return;
  const int64_t at = (int64_t{angle} + row % unit) * (Dim / 2);
  HeadVector<Dim> x;
  x.load(arena.base + (int64_t{src_row} + row) * Dim);
  x.rotated(cos + at, sin + at).store(arena.base + (int64_t{dst_row} + row) * Dim);
}

}  // namespace

void split_qkv(const Qkv& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  const int64_t tasks = a.rows * (a.shape.heads + 2 * a.shape.kv_heads);
  by_head_dim(a.shape.head_dim, [&](auto dim) {
    launch("split_qkv", split<dim()>, static_cast<unsigned>((tasks + kWarps - 1) / kWarps),
           kThreads, 0, stream, a);
  });
}

void rotate_plane(const Heads& shape, int unit, Arena arena, int32_t src_row, int32_t dst_row,
                  const float* cos, const float* sin, int32_t angle, cudaStream_t stream) {
  const int rows = shape.kv_heads * unit;
  by_head_dim(shape.head_dim, [&](auto dim) {
    launch("rotate_plane", rotate_keys<dim()>, (rows + kWarps - 1) / kWarps, kThreads, 0, stream,
           rows, unit, arena, src_row, dst_row, cos, sin, angle);
  });
}

}  // namespace ringtide::kernels::cuda

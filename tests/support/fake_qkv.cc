#include <cmath>
#include <vector>

#include "tests/support/fake_operations.h"
#include "tests/support/fake_values.h"

namespace ringtide::testing {

using namespace kernels;        // NOLINT: the whole file is about these
using namespace kernels::cuda;  // NOLINT

void fake_split_qkv(const Qkv& a) {
  const int dim = a.shape.head_dim, half = dim / 2;
  const int heads = a.shape.heads, kv = a.shape.kv_heads;
  std::vector<float> x(dim);
  for (int64_t r = 0; r < a.rows; ++r) {
    const TokenPlace& place = a.place[r];
    for (int h = 0; h < heads + 2 * kv; ++h) {
      const int64_t in = (r * (heads + 2 * kv) + h) * dim;
      for (int j = 0; j < dim; ++j)
        x[j] = value(a.qkv, in + j) + (a.bias ? a.bias[int64_t{h} * dim + j] : 0);
      const float* norm = h < heads ? a.q_norm : h < heads + kv ? a.k_norm : nullptr;
      if (norm) {
        double squares = 0;
        for (float v : x) squares += double{v} * v;
        const float scale = static_cast<float>(1 / std::sqrt(squares / dim + a.norm_eps));
        for (int j = 0; j < dim; ++j) x[j] *= scale * norm[j];
      }
      if (h >= heads)  // rotated as it is kept
        for (float& v : x) v = bfloat_to_float(float_to_bfloat(v));
      const auto rotated = [&](int32_t angle, int j) {
        const float c = a.cos[int64_t{angle} * half + j % half];
        const float s = a.sin[int64_t{angle} * half + j % half];
        return j < half ? x[j] * c - x[j + half] * s : x[j - half] * s + x[j] * c;
      };
      if (h < heads) {
        const int64_t out = (r * heads + h) * dim;
        for (int j = 0; j < dim; ++j) {
          store(a.q_near, out + j, rotated(place.near_angle, j));
          if (a.q_far) store(a.q_far, out + j, rotated(place.far_angle, j));
          if (a.q_raw) store(a.q_raw, out + j, x[j]);
        }
        if (!a.q_lookup) continue;
        for (float& v : x) v = bfloat_to_float(float_to_bfloat(v));
        for (int j = 0; j < dim; ++j) store(a.q_lookup, out + j, rotated(a.lookup_angle[r], j));
      } else {
        const int64_t g = int64_t{(h - heads) % kv} * a.unit + a.row_offset;
        for (int j = 0; j < dim; ++j) {
          const auto keep = [&](int32_t to, float value) {
            if (to >= 0) store(a.arena.base, (to + g) * dim + j, value);
          };
          if (h >= heads + kv) {
            keep(place.v_row, x[j]);
            continue;
          }
          keep(place.raw_row, x[j]);
          keep(place.rotated_row, rotated(place.near_angle, j));
        }
      }
    }
  }
}

}  // namespace ringtide::testing

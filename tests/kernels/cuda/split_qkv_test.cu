#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/learn.h"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {
namespace {

struct SplitQkv : DeviceTest {
  // One head: bias, norm, then rotation by a row of cos and sin, in double.
  struct Head {
    std::vector<double> raw, rotated;
  };
  static Head head(const bf16* x, const float* bias, const float* norm, int dim, double eps,
                   const float* cos, const float* sin, bool key) {
    Head h;
    double squares = 0;
    for (int i = 0; i < dim; ++i) {
      h.raw.push_back(value(x[i]) + (bias ? bias[i] : 0));
      squares += h.raw[i] * h.raw[i];
    }
    if (norm)
      for (int i = 0; i < dim; ++i) h.raw[i] *= norm[i] / std::sqrt(squares / dim + eps);
    for (int i = 0; key && i < dim; ++i) h.raw[i] = rounded(h.raw[i]);
    const int half = dim / 2;
    for (int i = 0; i < dim; ++i) {
      const double c = cos[i % half], s = sin[i % half];
      h.rotated.push_back(i < half ? h.raw[i] * c - h.raw[i + half] * s
                                   : h.raw[i] * c + h.raw[i - half] * s);
    }
    return h;
  }
};

TEST_F(SplitQkv, WritesQueriesAndTheArena) {
  for (const Heads& shape : kShapes) {
    for (const bool extras : {false, true}) {
      const int dim = shape.head_dim, half = dim / 2, unit = 24, angles = 50;
      const int all = shape.heads + 2 * shape.kv_heads;
      const int64_t rows = 21, plane = int64_t{shape.kv_heads} * unit, offset = 7;
      const auto qkv = normals_bf16(random, rows * all * dim);
      const auto bias = normals(random, all * dim), q_norm = normals(random, dim),
                 k_norm = normals(random, dim);
      const auto cos = normals(random, angles * half), sin = normals(random, angles * half);
      std::vector<TokenPlace> places(rows);
      for (int64_t r = 0; r < rows; ++r) {
        const int32_t t = static_cast<int32_t>(r);
        places[r] = {t, static_cast<int32_t>(plane + t), static_cast<int32_t>(2 * plane + t),
                     static_cast<int32_t>(between(random, 0, angles - 1)),
                     static_cast<int32_t>(between(random, 0, angles - 1))};
      }
      Device<bf16> arena((3 * plane + offset) * dim), dqkv(qkv);
      Device<bf16> near(rows * shape.heads * dim), far(rows * shape.heads * dim),
          raw(rows * shape.heads * dim);
      Device<float> dbias(bias), dq(q_norm), dk(k_norm), dcos(cos), dsin(sin);
      Device<TokenPlace> dplaces(places);
      Qkv a;
      a.shape = shape;
      a.unit = unit;
      a.arena = {arena, 3 * plane + offset};
      a.qkv = dqkv;
      a.bias = extras ? dbias.data() : nullptr;
      a.q_norm = extras ? dq.data() : nullptr;
      a.k_norm = extras ? dk.data() : nullptr;
      a.norm_eps = 1e-6f;
      a.cos = dcos;
      a.sin = dsin;
      a.place = dplaces;
      a.row_offset = offset;
      a.rows = rows;
      a.q_near = near;
      a.q_far = far;
      a.q_raw = extras ? raw.data() : nullptr;
      std::vector<int32_t> lookup_angles, begins;
      for (int64_t r = 0; r < rows; ++r) {
        lookup_angles.push_back(places[rows - 1 - r].near_angle);
        begins.push_back(static_cast<int32_t>(r));
      }
      begins.push_back(static_cast<int32_t>(rows));
      Device<int32_t> dangles(lookup_angles), dbegins(begins);
      Device<bf16> lookup(rows * shape.heads * dim), mean(rows * shape.heads * dim);
      a.q_lookup = extras ? lookup.data() : nullptr;
      a.lookup_angle = dangles;
      split_qkv(a, nullptr);
      if (extras) {
        mean_query(shape, raw, dbegins, dangles, static_cast<int32_t>(rows), dcos, dsin, mean,
                   nullptr);
        EXPECT_TRUE(same_bits(lookup.host(), mean.host()));
      }
      const auto got_near = near.host(), got_far = far.host(), got_raw = raw.host();
      const auto got_arena = arena.host();

      std::vector<double> want_near, want_far, want_raw;
      std::vector<bf16> kept;
      std::vector<double> want_kept;
      for (int64_t r = 0; r < rows; ++r) {
        for (int h = 0; h < all; ++h) {
          const bool query = h < shape.heads, key = !query && h < shape.heads + shape.kv_heads;
          const float* norm = !extras ? nullptr
                              : query ? q_norm.data()
                              : key   ? k_norm.data()
                                      : nullptr;
          const float* b = extras ? bias.data() + h * dim : nullptr;
          const auto turned = [&](int32_t angle) {
            return head(qkv.data() + (r * all + h) * dim, b, norm, dim, 1e-6,
                        cos.data() + angle * half, sin.data() + angle * half, key);
          };
          const Head at_near = turned(places[r].near_angle);
          const auto append = [](std::vector<double>& to, const std::vector<double>& x) {
            to.insert(to.end(), x.begin(), x.end());
          };
          if (query) {
            append(want_near, at_near.rotated);
            append(want_far, turned(places[r].far_angle).rotated);
            append(want_raw, at_near.raw);
            continue;
          }
          const int g = (h - shape.heads) % shape.kv_heads;
          const auto keep = [&](int32_t row, const std::vector<double>& x) {
            append(want_kept, x);
            const auto from = part(got_arena, (row + offset + int64_t{g} * unit) * dim, dim);
            kept.insert(kept.end(), from.begin(), from.end());
          };
          if (key) {
            keep(places[r].raw_row, at_near.raw);
            keep(places[r].rotated_row, at_near.rotated);
          } else {
            keep(places[r].v_row, at_near.raw);
          }
        }
      }
      EXPECT_LT(error(got_near, want_near), kRounding);
      EXPECT_LT(error(got_far, want_far), kRounding);
      if (extras) EXPECT_LT(error(got_raw, want_raw), kRounding);
      EXPECT_LT(error(kept, want_kept), kRounding);
      // Tokens that are not there stay as they were.
      for (int g = 0; g < shape.kv_heads; ++g)
        for (int i = 0; i < 3 * dim; ++i)
          EXPECT_TRUE(std::isnan(value(got_arena[(offset + g * unit + rows) * dim + i])));
    }
  }
}

// What a restored session does gives the bits of the session that was never closed.
TEST_F(SplitQkv, RotatingAPlaneOfRawKeysGivesTheSameBits) {
  for (const Heads& shape : kShapes) {
    const int dim = shape.head_dim, half = dim / 2, unit = 32;
    const int all = shape.heads + 2 * shape.kv_heads, plane = shape.kv_heads * unit;
    const auto cos = normals(random, 40 * half), sin = normals(random, 40 * half);
    const auto norm = normals(random, dim);
    std::vector<TokenPlace> places;
    for (int32_t t = 0; t < unit; ++t) places.push_back({t, plane + t, 2 * plane + t, 5 + t, 0});
    Device<bf16> arena(4 * int64_t{plane} * dim), qkv(normals_bf16(random, unit * all * dim)),
        near(unit * shape.heads * dim);
    Device<float> dcos(cos), dsin(sin), dnorm(norm);
    Device<TokenPlace> dplaces(places);
    Qkv a;
    a.shape = shape;
    a.unit = unit;
    a.arena = {arena, 4 * int64_t{plane}};
    a.qkv = qkv;
    a.k_norm = dnorm;
    a.norm_eps = 1e-6f;
    a.cos = dcos;
    a.sin = dsin;
    a.place = dplaces;
    a.rows = unit;
    a.q_near = near;
    split_qkv(a, nullptr);
    rotate_plane(shape, unit, a.arena, 0, 3 * plane, dcos, dsin, 5, nullptr);
    const auto got = arena.host();
    EXPECT_TRUE(same_bits(part(got, int64_t{plane} * dim, plane * dim),
                          part(got, int64_t{3} * plane * dim, plane * dim)));
  }
}

}  // namespace
}  // namespace ringtide::kernels::cuda

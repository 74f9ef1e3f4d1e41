#include "kernels/cuda/attention.h"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {
namespace {

struct Merge : DeviceTest {};

TEST_F(Merge, WeighsByLogSumExp) {
  for (const int dim : {64, 128, 256}) {
    const int64_t rows = 37;
    auto o = normals_bf16(random, rows * dim), o2 = normals_bf16(random, rows * dim);
    auto lse = normals(random, rows, 5), lse2 = normals(random, rows, 5);
    const auto empty = [&](std::vector<bf16>& of, std::vector<float>& l, int64_t row) {
      l[row] = -INFINITY;
      std::fill_n(of.begin() + row * dim, dim, __float2bfloat16_rn(0));
    };
    empty(o, lse, 3);
    empty(o2, lse2, 4);
    empty(o, lse, 5);
    empty(o2, lse2, 5);
    Device<bf16> to(o);
    Device<float> to_lse(lse);
    merge(to, to_lse, Device(o2), Device(lse2), rows, dim, nullptr);
    const auto got = to.host();
    const auto got_lse = to_lse.host();
    std::vector<double> want(rows * dim);
    for (int64_t r = 0; r < rows; ++r) {
      const double most = std::max(lse[r], lse2[r]);
      const double w1 = std::isinf(most) ? 0 : std::exp(lse[r] - most);
      const double w2 = std::isinf(most) ? 0 : std::exp(lse2[r] - most);
      for (int64_t i = r * dim; i < (r + 1) * dim; ++i)
        want[i] = w1 + w2 > 0 ? (w1 * value(o[i]) + w2 * value(o2[i])) / (w1 + w2) : 0;
      if (std::isinf(most)) {
        EXPECT_EQ(got_lse[r], -INFINITY);
      } else {
        EXPECT_NEAR(got_lse[r], most + std::log(w1 + w2), 1e-5);
      }
    }
    EXPECT_LT(error(got, want), kRounding);
  }
  merge(nullptr, nullptr, nullptr, nullptr, 0, 128, nullptr);
}

}  // namespace
}  // namespace ringtide::kernels::cuda

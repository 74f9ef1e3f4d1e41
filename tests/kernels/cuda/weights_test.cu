#include "kernels/cuda/weights.h"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {
namespace {

struct Weights : DeviceTest {};

TEST_F(Weights, DequantizesAsTheCpuDoes) {
  for (int t = 0; t < kTensorTypes; ++t) {
    const auto type = static_cast<TensorType>(t);
    const int64_t rows = 70, k = 512;
    std::vector<std::byte> src(row_bytes(type, rows * k));
    for (std::byte& b : src) b = static_cast<std::byte>(random());
    std::vector<int32_t> order(rows);
    for (int32_t& r : order) r = static_cast<int32_t>(between(random, 0, rows - 1));
    std::vector<float> want(rows * k);
    kernels::dequantize(type, src.data(), rows * k, want.data());
    Device<std::byte> dsrc(src);
    Device<bf16> plain(rows * k), ordered(rows * k);
    dequantize(type, dsrc, rows, k, nullptr, plain, nullptr);
    dequantize(type, dsrc, rows, k, Device(order), ordered, nullptr);
    const auto a = plain.host(), b = ordered.host();
    for (int64_t i = 0; i < rows * k; ++i) {
      const auto expect = [&](bf16 got, float from) {
        if (std::isnan(from)) {
          EXPECT_TRUE(std::isnan(value(got)));
        } else {
          EXPECT_EQ(value(got), rounded(from)) << type_info(type).name << " " << i;
        }
      };
      expect(a[i], want[i]);
      expect(b[i], want[order[i / k] * k + i % k]);
    }
  }
  dequantize(TensorType::F32, nullptr, 0, 32, nullptr, nullptr, nullptr);
}

TEST_F(Weights, NormalValuesAreAFunctionOfSeedAndPlace) {
  const int64_t n = 1 << 20;
  Device<bf16> a(n), b(n), c(1000);
  fill_normal(a, n, 0.02f, 7, nullptr);
  fill_normal(b, n, 0.02f, 8, nullptr);
  fill_normal(c, 1000, 0.02f, 7, nullptr);
  const auto x = a.host(), y = b.host();
  EXPECT_TRUE(same_bits(part(x, 0, 1000), c.host()));
  double sum = 0, squares = 0, fourth = 0, both = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double u = value(x[i]) / 0.02;
    sum += u;
    squares += u * u;
    fourth += u * u * u * u;
    both += u * value(y[i]) / 0.02;
  }
  EXPECT_NEAR(sum / n, 0, 0.005);
  EXPECT_NEAR(squares / n, 1, 0.01);
  EXPECT_NEAR(fourth / n, 3, 0.1);
  EXPECT_NEAR(both / n, 0, 0.005);
}

}  // namespace
}  // namespace ringtide::kernels::cuda

#include "kernels/matmul.h"

#include <bit>
#include <cmath>
#include <numeric>

#include "kernels/half.h"
#include "tests/kernels/support.h"

namespace ringtide::kernels {
namespace {

constexpr TensorType kTypes[] = {TensorType::F32,  TensorType::F16,  TensorType::BF16,
                                 TensorType::Q8_0, TensorType::Q4_0, TensorType::Q4_1};

// Rows of GGUF's layout with random contents and finite scales.
std::vector<std::byte> random_rows(Random& random, TensorType type, int64_t n, int64_t k) {
  const TypeInfo& info = type_info(type);
  std::vector<std::byte> rows(n * row_bytes(type, k));
  const auto put = [&](size_t at, uint32_t bits, size_t bytes) {
    std::memcpy(&rows[at], &bits, bytes);
  };
  for (size_t at = 0; at < rows.size(); at += info.block_bytes) {
    const float value = normals(random, 1)[0];
    if (type == TensorType::F32) {
      put(at, std::bit_cast<uint32_t>(value), 4);
    } else if (type == TensorType::BF16) {
      put(at, std::bit_cast<uint32_t>(value) >> 16, 2);
    } else if (type == TensorType::F16) {
      put(at, float_to_half(value), 2);
    } else {
      for (int64_t i = 0; i < info.block_bytes; ++i) rows[at + i] = std::byte(random());
      put(at, float_to_half(value / 16), 2);
      if (type == TensorType::Q4_1) put(at + 2, float_to_half(-value / 2), 2);
    }
  }
  return rows;
}

struct Weights {
  std::vector<float> values;  // (n, k)
  std::vector<std::byte> memory;
  PackedMatrix packed;
};

Weights make_weights(Random& random, TensorType type, int64_t n, int64_t k, ThreadPool& threads) {
  const std::vector<std::byte> rows = random_rows(random, type, n, k);
  Weights w;
  w.values.resize(n * k);
  dequantize(type, rows.data(), n * k, w.values.data());
  w.memory.resize(packed_bytes(type, n, k) + 64);
  std::byte* at = w.memory.data() + (-reinterpret_cast<uintptr_t>(w.memory.data()) & 63);
  w.packed = pack(type, rows.data(), n, k, {}, at, threads);
  return w;
}

std::vector<float> multiply(const std::vector<float>& x, int64_t m, const PackedMatrix& w,
                            ThreadPool& threads) {
  std::vector<float> y(m * w.n, NAN);
  matmul(x.data(), m, w, y.data(), Write::Replace, threads);
  return y;
}

class Matmul : public EachTarget {
 protected:
  Random random_{7};
  ThreadPool threads_{2};
};
RINGTIDE_EACH_TARGET(Matmul);

// Sums in float32: the error is below k * 2^-24 of the sum of magnitudes, for every type, since the
// weights themselves are exact.
TEST_P(Matmul, AgreesWithFloat64ForRaggedShapes) {
  for (const TensorType type : kTypes) {
    const int64_t block = type_info(type).block_elements;
    for (const int64_t n : {1, 5, 31, 32, 33, 64, 95, 130}) {
      for (const int64_t m : {1, 2, 3, 4, 5, 7, 13, 29}) {
        const int64_t k = block * uniform(random_, 1, block == 1 ? 70 : 4);
        const Weights w = make_weights(random_, type, n, k, threads_);
        const std::vector<float> x = normals(random_, m * k);
        Guarded<float> y(m * n);
        matmul(x.data(), m, w.packed, y.data(), Write::Replace, threads_);
        ASSERT_TRUE(y.intact());
        for (int64_t i = 0; i < m * n; ++i) {
          double sum = 0, magnitude = 0;
          for (int64_t j = 0; j < k; ++j) {
            const double term = double{x[i / n * k + j]} * w.values[i % n * k + j];
            sum += term;
            magnitude += std::abs(term);
          }
          ASSERT_NEAR(y[i], sum, magnitude * k * 0x1p-24)
              << type_info(type).name << " m " << m << " n " << n << " k " << k << " at " << i;
        }
      }
    }
  }
}

// Every weight is exactly the dequantised one: multiplying by unit rows gives them back.
TEST_P(Matmul, PackingIsExact) {
  for (const TensorType type : kTypes) {
    const int64_t n = 45, k = 64;
    const Weights w = make_weights(random_, type, n, k, threads_);
    for (const int64_t m : {int64_t{1}, k}) {
      std::vector<float> x(k * k, 0);
      for (int64_t i = 0; i < k; ++i) x[i * k + i] = 1;
      for (int64_t row = 0; row < k; row += m) {
        const std::vector<float> rows(x.begin() + row * k, x.begin() + (row + m) * k);
        const std::vector<float> y = multiply(rows, m, w.packed, threads_);
        for (int64_t i = 0; i < m * n; ++i) {
          ASSERT_EQ(y[i], w.values[i % n * k + row + i / n]) << type_info(type).name << " " << i;
        }
      }
    }
  }
}

TEST_P(Matmul, ARowDependsOnNothingButItself) {
  const int64_t n = 200, k = 96, m = 300;
  for (const TensorType type : kTypes) {
    const Weights w = make_weights(random_, type, n, k, threads_);
    const std::vector<float> x = normals(random_, m * k);
    const std::vector<float> whole = multiply(x, m, w.packed, threads_);
    for (int threads = 1; threads <= 4; ++threads) {
      ThreadPool pool(threads);
      ASSERT_TRUE(same_bits(multiply(x, m, w.packed, pool), whole)) << type_info(type).name;
      for (int64_t row = 0; row < m;) {
        const int64_t part = std::min(m - row, uniform(random_, 1, row % 3 ? 6 : 60));
        const std::vector<float> rows(x.begin() + row * k, x.begin() + (row + part) * k);
        const std::vector<float> y = multiply(rows, part, w.packed, pool);
        const std::vector<float> expected(whole.begin() + row * n,
                                          whole.begin() + (row + part) * n);
        ASSERT_TRUE(same_bits(y, expected)) << type_info(type).name << " rows " << part;
        row += part;
      }
    }
  }
}

TEST_P(Matmul, AddsToWhatIsThere) {
  const Weights w = make_weights(random_, TensorType::Q4_1, 77, 64, threads_);
  for (const int64_t m : {1, 2, 20}) {
    const std::vector<float> x = normals(random_, m * 64);
    const std::vector<float> before = normals(random_, m * 77);
    const std::vector<float> product = multiply(x, m, w.packed, threads_);
    std::vector<float> y = before;
    matmul(x.data(), m, w.packed, y.data(), Write::Add, threads_);
    for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], before[i] + product[i]);
  }
}

TEST_P(Matmul, OfNoRowsTouchesNothing) {
  const Weights w = make_weights(random_, TensorType::F32, 3, 2, threads_);
  matmul(nullptr, 0, w.packed, nullptr, Write::Replace, threads_);
}

TEST(Pack, TakesRowsInTheOrderGiven) {
  Random random(3);
  ThreadPool threads(3);
  for (const TensorType type : kTypes) {
    const int64_t n = 70, k = 32;
    const std::vector<std::byte> rows = random_rows(random, type, n, k);
    std::vector<int32_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    std::vector<std::byte> sorted;
    for (const int32_t r : order) {
      const auto row = rows.begin() + r * row_bytes(type, k);
      sorted.insert(sorted.end(), row, row + row_bytes(type, k));
    }
    const int64_t bytes = packed_bytes(type, n, k);
    Guarded<std::byte> by_order(bytes), as_is(bytes);
    const PackedMatrix packed = pack(type, rows.data(), n, k, order, by_order.data(), threads);
    pack(type, sorted.data(), n, k, {}, as_is.data(), threads);
    EXPECT_TRUE(by_order.intact());
    EXPECT_EQ(std::memcmp(by_order.data(), as_is.data(), bytes), 0) << type_info(type).name;
    EXPECT_EQ(packed.n, n);
    EXPECT_EQ(packed.k, k);
    EXPECT_EQ(packed.data, by_order.data());
  }
}

}  // namespace
}  // namespace ringtide::kernels

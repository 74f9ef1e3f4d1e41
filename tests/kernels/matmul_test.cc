#include "kernels/matmul.h"

#include <bit>
#include <cmath>
#include <numeric>

#include "kernels/coded_block.h"
#include "kernels/half.h"
#include "kernels/integer_tile.h"
#include "tests/kernels/support.h"

namespace ringtide::kernels {
namespace {

std::vector<TensorType> all_types() {
  std::vector<TensorType> types;
  for (int i = 0; i < kTensorTypes; ++i) types.push_back(static_cast<TensorType>(i));
  return types;
}
const std::vector<TensorType> kTypes = all_types();

bool coded(TensorType type) { return coding(type).bits > 0; }

// Where a block's half-precision factors stand.
std::vector<size_t> factors(TensorType type) {
  switch (type) {
    case TensorType::Q2_K:
      return {80, 82};
    case TensorType::Q3_K:
      return {108};
    case TensorType::Q6_K:
      return {208};
    default:
      return coding(type).minimum ? std::vector<size_t>{0, 2} : std::vector<size_t>{0};
  }
}

// Rows of GGUF's layout with random contents and finite factors.
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
      for (const size_t f : factors(type)) {
        put(at + f, float_to_half(normals(random, 1, 1.f / 16)[0]), 2);
      }
    }
  }
  return rows;
}

struct Weights {
  std::vector<float> values;  // (n, k)
  std::vector<std::byte> memory;
  PackedMatrix packed;
};

Weights pack_weights(TensorType type, const std::vector<std::byte>& rows, int64_t n, int64_t k,
                     ThreadPool& threads) {
  Weights w;
  w.values.resize(n * k);
  dequantize(type, rows.data(), n * k, w.values.data());
  w.memory.resize(packed_bytes(type, n, k) + 64);
  std::byte* at = w.memory.data() + (-reinterpret_cast<uintptr_t>(w.memory.data()) & 63);
  w.packed = pack(type, rows.data(), n, k, {}, at, threads);
  return w;
}

Weights make_weights(Random& random, TensorType type, int64_t n, int64_t k, ThreadPool& threads) {
  return pack_weights(type, random_rows(random, type, n, k), n, k, threads);
}

std::vector<float> multiply(const std::vector<float>& x, int64_t m, PackedMatrix w,
                            ThreadPool& threads, ActivationType activations = ActivationType::F32) {
  std::vector<float> y(m * w.n, NAN);
  w.activations = activations;
  matmul(x.data(), m, w, y.data(), Write::Replace, threads);
  return y;
}

class Matmul : public EachTarget {
 protected:
  // The products of activations x (m, k) that are integers themselves.
  void expect_exact(const std::vector<float>& x, int64_t m, const Weights& w, ActivationType a,
                    TensorType type) {
    const int64_t n = w.packed.n, k = w.packed.k;
    const std::vector<float> y = multiply(x, m, w.packed, threads_, a);
    for (int64_t i = 0; i < m * n; ++i) {
      double sum = 0, magnitude = 0;
      for (int64_t j = 0; j < k; ++j) {
        const double term = double{x[i / n * k + j]} * w.values[i % n * k + j];
        sum += term;
        magnitude += std::abs(term);
      }
      ASSERT_NEAR(y[i], sum, magnitude * 4e-6)
          << type_info(type).name << " rows " << m << " at " << i;
    }
  }

  Random random_{7};
  ThreadPool threads_{2};
};
RINGTIDE_EACH_TARGET(Matmul);

// Half of an activation's step, relative to the greatest of its group.
double rounding(ActivationType a) {
  return a == ActivationType::F32 ? 0 : a == ActivationType::Int16 ? 0.5 / (127 * 256) : 0.5 / 127;
}

// The error is below what the activations' rounding makes of it, k * 2^-24 of the sum of magnitudes
// for the sums in float32, and nothing else: the weights themselves are exact.
TEST_P(Matmul, AgreesWithFloat64ForRaggedShapes) {
  for (const TensorType type : kTypes) {
    const int64_t block = type_info(type).block_elements;
    for (const int64_t n : {1, 5, 31, 32, 33, 64, 95, 130}) {
      for (const int64_t m : {1, 2, 3, 4, 5, 7, 13, 29, 70}) {
        if (m == 70 && coded(type)) continue;  // no other way than 29
        const int64_t k = block * uniform(random_, 1, block == 1 ? 200 : block == 32 ? 12 : 3);
        const Weights w = make_weights(random_, type, n, k, threads_);
        const std::vector<float> x = normals(random_, m * k);
        for (const ActivationType a :
             {ActivationType::F32, ActivationType::Int16, ActivationType::Int8}) {
          if (!coded(type) && type != TensorType::BF16 && a != ActivationType::F32) continue;
          Guarded<float> y(m * n);
          PackedMatrix packed = w.packed;
          packed.activations = a;
          matmul(x.data(), m, packed, y.data(), Write::Replace, threads_);
          ASSERT_TRUE(y.intact());
          for (int64_t i = 0; i < m * n; ++i) {
            const float* row = &x[i / n * k];
            const float* weights = &w.values[i % n * k];
            double sum = 0, magnitude = 0, rounded = 0;
            for (int64_t j = 0; j < k; ++j) {
              sum += double{row[j]} * weights[j];
              magnitude += std::abs(double{row[j]} * weights[j]);
              if (!coded(type)) {
                if (a != ActivationType::F32) {
                  rounded += 0x1p-8 * std::abs(double{row[j]} * weights[j]);
                }
              } else if (j % 32 == 0 && a != ActivationType::F32) {
                double top = 0;
                for (int64_t g = j; g < j + 32; ++g) top = std::max(top, std::abs(double{row[g]}));
                for (int64_t g = j; g < j + 32; ++g) {
                  rounded += rounding(a) * top * std::abs(weights[g]);
                }
              }
            }
            // Minima are summed apart from what they are taken from.
            const double parts = coding(type).minimum && a != ActivationType::F32 ? 16 : 2;
            ASSERT_NEAR(y[i], sum, rounded * 1.0001 + parts * magnitude * k * 0x1p-24)
                << type_info(type).name << " m " << m << " n " << n << " k " << k << " at " << i
                << " activations " << static_cast<int>(a);
          }
        }
      }
    }
  }
}

// Sums of integers are exact, so the activations' rounding is the whole error: with activations
// that are integers themselves there is none but that of sums in float32.
TEST_P(Matmul, IntegersAreMultipliedExactly) {
  const int64_t n = 70, k = 512;
  for (const TensorType type : kTypes) {
    if (!coded(type)) continue;
    const Weights w = make_weights(random_, type, n, k, threads_);
    for (const ActivationType a : {ActivationType::Int16, ActivationType::Int8}) {
      const int64_t most = a == ActivationType::Int16 ? 127 * 256 : 127;
      for (const int64_t m : {1, 2, 3, 14}) {
        std::vector<float> x(m * k);
        for (int64_t i = 0; i < m * k; ++i) {
          const int64_t sign = random_() % 2 ? 1 : -1;
          x[i] = static_cast<float>(i % 32 == 0 ? most * sign : uniform(random_, -most, most));
        }
        expect_exact(x, m, w, a, type);
      }
    }
  }
}

// Every code the greatest, every byte of the activations the greatest of its sign: no sum of few
// bits overflows.
TEST_P(Matmul, GreatestIntegersAreMultipliedExactly) {
  const int64_t n = 33, k = 256;
  for (const TensorType type : kTypes) {
    if (!coded(type)) continue;
    std::vector<std::byte> rows(n * row_bytes(type, k), std::byte{0xff});
    for (size_t at = 0; at < rows.size(); at += type_info(type).block_bytes) {
      const uint16_t one = float_to_half(1);
      for (const size_t f : factors(type)) std::memcpy(&rows[at + f], &one, 2);
    }
    const Weights w = pack_weights(type, rows, n, k, threads_);
    for (const ActivationType a : {ActivationType::Int16, ActivationType::Int8}) {
      const bool wide = a == ActivationType::Int16;
      for (const float byte : {127.f, -128.f}) {
        for (const float sign : {1.f, -1.f}) {
          for (const int64_t m : {1, 2, 4, 5}) {
            std::vector<float> x(m * k, wide ? sign * 126 * 256 + byte : sign * 127);
            for (int64_t i = 0; i < m * k; i += 32) x[i] = wide ? 127 * 256 : 127;
            expect_exact(x, m, w, a, type);
          }
        }
      }
    }
  }
}

TEST_P(Matmul, ZerosAndWhatIsNotFiniteStaySo) {
  const int64_t k = 256;
  const Weights w = make_weights(random_, TensorType::Q4_K, 40, k, threads_);
  for (const ActivationType a : {ActivationType::Int16, ActivationType::Int8}) {
    for (const float y : multiply(std::vector<float>(k, 0.f), 1, w.packed, threads_, a)) {
      ASSERT_EQ(y, 0);
    }
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> x = normals(random_, k);
      x[77] = bad;
      for (const float y : multiply(x, 1, w.packed, threads_, a)) ASSERT_FALSE(std::isfinite(y));
    }
    for (const float y : multiply(std::vector<float>(k, 1e-42f), 1, w.packed, threads_, a)) {
      ASSERT_NEAR(y, 0, 1e-30);
    }
  }
}

// Every weight is exactly the dequantised one: multiplying by unit rows gives them back.
TEST_P(Matmul, PackingIsExact) {
  for (const TensorType type : kTypes) {
    const int64_t n = 45, k = std::max<int64_t>(64, type_info(type).block_elements);
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

// A type of each way to compute: by coding, with and without minima.
std::vector<std::pair<TensorType, ActivationType>> kinds() {
  std::vector<std::pair<TensorType, ActivationType>> list = {
      {TensorType::F32, ActivationType::F32},
      {TensorType::F16, ActivationType::F32},
      {TensorType::BF16, ActivationType::F32},
      {TensorType::BF16, ActivationType::Int16}};
  for (const ActivationType a :
       {ActivationType::F32, ActivationType::Int16, ActivationType::Int8}) {
    for (const TensorType type :
         {TensorType::Q8_0, TensorType::Q4_1, TensorType::Q3_K, TensorType::Q4_K, TensorType::Q5_K,
          TensorType::Q6_K}) {
      list.emplace_back(type, a);
    }
  }
  return list;
}

TEST_P(Matmul, ARowDependsOnNothingButItself) {
  const int64_t n = 200, m = 300;
  for (const auto& [type, activations] : kinds()) {
    const int64_t k = type_info(type).block_elements == 256 ? 512 : 288;
    const Weights w = make_weights(random_, type, n, k, threads_);
    const std::vector<float> x = normals(random_, m * k);
    const std::vector<float> whole = multiply(x, m, w.packed, threads_, activations);
    for (int threads = 1; threads <= 4; ++threads) {
      ThreadPool pool(threads);
      ASSERT_TRUE(same_bits(multiply(x, m, w.packed, pool, activations), whole))
          << type_info(type).name;
      for (int64_t row = 0; row < m;) {
        const int64_t part = std::min(m - row, uniform(random_, 1, row % 3 ? 6 : 60));
        const std::vector<float> rows(x.begin() + row * k, x.begin() + (row + part) * k);
        const std::vector<float> y = multiply(rows, part, w.packed, pool, activations);
        const std::vector<float> expected(whole.begin() + row * n,
                                          whole.begin() + (row + part) * n);
        ASSERT_TRUE(same_bits(y, expected)) << type_info(type).name << " rows " << part;
        row += part;
      }
    }
  }
}

// The same product, put together from parts of the outputs.
std::vector<float> by_parts(const std::vector<float>& x, int64_t m, const PackedMatrix& w, int parts,
                            ThreadPool& threads, ActivationType activations) {
  std::vector<float> together(m * w.n);
  int64_t next = 0;
  for (int p = 0; p < parts; ++p) {
    const Outputs outputs = outputs_of(w.n, p, parts);
    EXPECT_EQ(outputs.begin, next);
    next = outputs.end;
    const auto part = multiply(x, m, part_of(w, outputs), threads, activations);
    for (int64_t r = 0; r < m; ++r) {
      std::copy_n(part.begin() + r * outputs.size(), outputs.size(),
                  together.begin() + r * w.n + outputs.begin);
    }
  }
  EXPECT_EQ(next, w.n);
  return together;
}

TEST_P(Matmul, PartsOfTheOutputsHaveTheBitsOfTheWhole) {
  for (const auto& [type, activations] : kinds()) {
    const int64_t k = type_info(type).block_elements == 256 ? 512 : 288;
    for (const int64_t n : {7, 64, 201}) {
      const Weights w = make_weights(random_, type, n, k, threads_);
      for (const int64_t m : {1, 3, 17}) {
        const std::vector<float> x = normals(random_, m * k);
        const std::vector<float> whole = multiply(x, m, w.packed, threads_, activations);
        for (const int parts : {1, 2, 3, 8}) {
          ASSERT_TRUE(same_bits(by_parts(x, m, w.packed, parts, threads_, activations), whole))
              << type_info(type).name << " rows " << m;
        }
      }
    }
  }
}

// Few and many rows read several panels of the matrix in turn: each gives what it gives alone, also
// where less than a whole turn is left.
TEST_P(Matmul, PanelsSideBySideHaveTheBitsOfEachAlone) {
  ThreadPool thread(1);
  for (const auto& [type, activations] : kinds()) {
    const int64_t k = type_info(type).block_elements == 256 ? 256 : 96;
    for (const int64_t n : {617, 905}) {
      const Weights w = make_weights(random_, type, n, k, threads_);
      const int panels = static_cast<int>((n + 31) / 32);
      for (const int64_t m : {1, 2, 3, 4, 8, 70}) {
        const std::vector<float> x = normals(random_, m * k);
        ASSERT_TRUE(same_bits(multiply(x, m, w.packed, thread, activations),
                              by_parts(x, m, w.packed, panels, thread, activations)))
            << type_info(type).name << " rows " << m << " outputs " << n;
      }
    }
  }
}

// With and without the instructions for dot products of bytes, to the bit.
TEST_P(Matmul, DotProductsOfBytesAreThoseOfOtherInstructions) {
  if (!has_vnni()) GTEST_SKIP() << "this processor has no AVX512-VNNI";
  const int64_t n = 70, k = 512;
  for (const TensorType type : kTypes) {
    if (!coded(type)) continue;
    const Weights w = make_weights(random_, type, n, k, threads_);
    for (const ActivationType a : {ActivationType::Int16, ActivationType::Int8}) {
      for (const int64_t m : {1, 3, 4, 27}) {
        const std::vector<float> x = normals(random_, m * k);
        const std::vector<float> with = multiply(x, m, w.packed, threads_, a);
        allow_vnni(false);
        const std::vector<float> without = multiply(x, m, w.packed, threads_, a);
        allow_vnni(true);
        ASSERT_TRUE(same_bits(with, without)) << type_info(type).name << " rows " << m;
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
    const int64_t n = 70, k = std::max<int64_t>(32, type_info(type).block_elements);
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

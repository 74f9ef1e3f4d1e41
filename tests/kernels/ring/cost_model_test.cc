#include "kernels/ring/cost_model.h"

#include <gtest/gtest.h>

namespace ringtide::kernels::ring {
namespace {

const AttentionShape kLlama{32, 8, 128, 2};
// 600 TFLOP/s, no overhead of a hop, links of 300 GB/s.
const Rates kRates{6e14, 0, 3e11, 0, 3e12, 2e-5};

TEST(CostModel, OneShardIsItsArithmetic) {
  // 4 * 32 * 128 * 65536^2 / 2 operations.
  EXPECT_NEAR(prefill_seconds(kLlama, kRates, 65536, 0, 1), 8192.0 * 65536 * 65536 / 6e14, 1e-9);
}

TEST(CostModel, TransfersHideBehindLongHopsAndBoundShortOnes) {
  const double one = prefill_seconds(kLlama, kRates, 1 << 20, 0, 1);
  EXPECT_NEAR(prefill_seconds(kLlama, kRates, 1 << 20, 0, 8), one / 8, one * 1e-9);
  // 2048 shards of 512 tokens: a hop's 4096 bytes a token take longer than its 8192 n^2 operations.
  const double bound = 2047 * (512 * 4096 / 3e11) + one / 2048 / 2048;
  EXPECT_NEAR(prefill_seconds(kLlama, kRates, 1 << 20, 0, 2048), bound, bound * 1e-9);
}

TEST(CostModel, DecodeIsBytesAndOneExchange) {
  const double one = decode_seconds(kLlama, kRates, 1 << 19, 1, 1);
  EXPECT_NEAR(one, 4096.0 * (1 << 19) / 3e12, 1e-12);
  EXPECT_NEAR(decode_seconds(kLlama, kRates, 1 << 19, 1, 4), one / 4 + 4e-5, 1e-12);
}

}  // namespace
}  // namespace ringtide::kernels::ring

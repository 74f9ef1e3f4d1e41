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

// Two H100 over NVLink: keys passed faster, or as fast, in all of 512, 2K and 8K tokens after 8K, 64K
// and 256K (README). Over a link of 12 GB/s few tokens do not wait for the keys of many.
TEST(CostModel, QueriesPassWhereTheLinkIsSlowAndTokensAreFew) {
  Rates nvlink{.attention_flops = 6.2e14, .link_bytes = 3.8e11, .link_seconds = 20e-6};
  nvlink.units = 132;
  nvlink.tile = 128;
  Rates pcie = nvlink;
  pcie.link_bytes = 1.2e10;
  for (const double past : {8192.0, 65536.0, 262144.0}) {
    for (const double fresh : {512.0, 2048.0, 8192.0}) {
      const PassSeconds near = pass_seconds(kLlama, nvlink, fresh / 2, (past + fresh) / 2);
      EXPECT_LE(near.keys, near.queries) << fresh << " after " << past;
    }
  }
  const PassSeconds few = pass_seconds(kLlama, pcie, 256, 131072);
  EXPECT_LT(few.queries, few.keys / 2);
  const PassSeconds many = pass_seconds(kLlama, pcie, 16384, 16384);
  EXPECT_LT(many.keys, many.queries);
}

}  // namespace
}  // namespace ringtide::kernels::ring

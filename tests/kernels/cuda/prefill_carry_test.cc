// Partial results that come in and go out of prefill_attention().
#include <algorithm>

#include "kernels/cuda/prefill_attention_paths.h"
#include "tests/kernels/cuda/ring_sequence.h"

namespace ringtide::kernels::cuda {
namespace {

struct PrefillCarry : DeviceTest {
  // Causal attention of the queries from `from` on, over `parts` of the blocks in turn.
  void expect_union(const Heads& shape, int unit, int64_t tokens, int64_t from, int parts,
                    bool shared_work) {
    const RingSequence s(random, shape, unit, tokens);
    std::vector<int64_t> blocks = s.all_blocks();
    std::shuffle(blocks.begin(), blocks.end(), random);
    const std::vector<bf16> planes = s.planes(blocks);
    const std::vector<KvRef> refs = s.refs(blocks);
    ArenaMemory arena(static_cast<int64_t>(planes.size()));
    check(cudaMemcpy(arena.data(), planes.data(), planes.size() * 2, cudaMemcpyDefault), "copy");
    const int64_t m = tokens - from;
    Device<bf16> q(s.queries({{from, tokens}})), o(m * s.width());
    Device<float> o32(m * s.width()), lse(m * shape.heads);
    PrefillAttention a;
    a.shape = shape;
    a.unit = unit;
    a.arena = {arena.data(), static_cast<int64_t>(planes.size()) / shape.head_dim};
    a.q_near = a.q_far = q;
    a.q_stride = s.width();
    a.position = from;
    a.m = static_cast<int32_t>(m);
    a.scale = s.scale;
    a.lse = lse;
    Device<int32_t> work(std::vector<int32_t>(2));
    if (shared_work) a.work = work;
    for (int part = 0; part < parts; ++part) {
      const auto cut = [&](int i) { return refs.begin() + refs.size() * i / parts; };
      const std::vector<KvRef> some(cut(part), cut(part + 1));
      Device<KvRef> list(some);
      Device<int32_t> count(std::vector{static_cast<int32_t>(some.size())});
      a.lists.near = {list, count, static_cast<int32_t>(some.size()), 0};
      const bool last = part == parts - 1;
      a.o_before = part > 0 ? o32.data() : nullptr;
      a.lse_before = part > 0 ? lse.data() : nullptr;
      a.o32 = last ? nullptr : o32.data();
      a.o = last ? o.data() : nullptr;
      prefill_attention(a, nullptr);
      check(cudaDeviceSynchronize(), "prefill_attention");
    }
    EXPECT_EQ(work.host(), std::vector<int32_t>(2)) << "the numbers are left as they came";
    const std::vector<bf16> got = o.host();
    const std::vector<float> got_lse = lse.host();
    for (int i = 0; i < 24; ++i) {
      const int64_t row = i == 0 ? 0 : i == 1 ? m - 1 : between(random, 0, m - 1);
      const int head = static_cast<int>(between(random, 0, shape.heads - 1));
      std::vector<double> want;
      double want_lse = 0;
      s.slow(from + row, head, want, want_lse);
      ASSERT_NEAR(got_lse[row * shape.heads + head], want_lse, 1e-4) << "query " << row;
      const int64_t at = row * s.width() + head * shape.head_dim;
      ASSERT_LT(error(part_of(got, at, shape.head_dim), want), 6e-3)
          << "query " << row << " head " << head << " of " << m;
    }
  }
  static std::vector<bf16> part_of(const std::vector<bf16>& v, int64_t at, int64_t n) {
    return part(v, at, n);
  }
};

TEST_F(PrefillCarry, PartsInTurnAreTheWhole) {
  for (const Heads& shape :
       {Heads{32, 8, 128}, Heads{9, 3, 64}, Heads{8, 8, 64}, Heads{4, 1, 256}}) {
    for (int unit : {128, 64}) {
      for (int parts = 1; parts <= 4; ++parts) {
        SCOPED_TRACE(std::to_string(shape.heads) + "/" + std::to_string(shape.kv_heads) + " unit " +
                     std::to_string(unit) + ", " + std::to_string(parts) + " parts");
        const int64_t tokens = between(random, 400, 1500);
        expect_union(shape, unit, tokens, parts % 2 ? 0 : between(random, 1, tokens - 1), parts,
                     parts > 1);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(PrefillCarry, RunsOfQueriesHaveTheBitsThatAllTogetherHave) {
  for (const Heads& shape :
       {Heads{32, 8, 128}, Heads{9, 3, 64}, Heads{8, 8, 64}, Heads{4, 1, 256}}) {
    constexpr int kUnit = 128;
    const int64_t tokens = 9 * kUnit + 57;
    const RingSequence s(random, shape, kUnit, tokens);
    const std::vector<bf16> planes = s.planes(s.all_blocks());
    ArenaMemory arena(static_cast<int64_t>(planes.size()));
    check(cudaMemcpy(arena.data(), planes.data(), planes.size() * 2, cudaMemcpyDefault), "copy");
    Device<KvRef> list(s.refs(s.all_blocks()));
    const auto n = static_cast<int32_t>(s.all_blocks().size());
    Device<int32_t> count(std::vector{n});
    const auto attend = [&](const std::vector<ring::Tokens>& runs, const int64_t* positions) {
      int64_t m = 0;
      for (const ring::Tokens& run : runs) m += run.size();
      Device<bf16> q(s.queries(runs)), o(m * s.width());
      PrefillAttention a;
      a.shape = shape;
      a.unit = kUnit;
      a.arena = {arena.data(), static_cast<int64_t>(planes.size()) / shape.head_dim};
      a.q_near = a.q_far = q;
      a.q_stride = s.width();
      a.positions = positions;
      a.m = static_cast<int32_t>(m);
      a.lists.near = {list, count, n, 0};
      a.scale = s.scale;
      a.o = o;
      prefill_attention(a, nullptr);
      return o.host();
    };
    const std::vector<bf16> all = attend({{0, tokens}}, nullptr);
    const std::vector<ring::Tokens> runs = {{128, 256}, {512, 640}, {640, 768}, {1152, tokens}};
    Device<int64_t> positions(std::vector<int64_t>{128, 512, 640, 1152});
    const std::vector<bf16> some = attend(runs, positions);
    int64_t row = 0;
    for (const ring::Tokens& run : runs) {
      ASSERT_TRUE(same_bits(part_of(some, row * s.width(), run.size() * s.width()),
                            part_of(all, run.begin * s.width(), run.size() * s.width())))
          << "queries from " << run.begin;
      row += run.size();
    }
  }
}

TEST_F(PrefillCarry, NothingSeenLeavesWhatCame) {
  const Heads shape{8, 2, 128};
  const int64_t m = 300, width = 8 * 128;
  const std::vector<float> before = normals(random, m * width);
  std::vector<float> lse_before = normals(random, m * 8, 20);
  std::vector<float> zeroed = before;
  for (int64_t i = 0; i < m * 8; i += 7) {  // some saw nothing before either
    lse_before[i] = -INFINITY;
    std::fill_n(zeroed.begin() + i * 128, 128, 0.0f);
  }
  Device<float> o32(zeroed), lse(lse_before);
  Device<bf16> q(normals_bf16(random, m * width));
  ArenaMemory arena(2 * 128 * 2 * 128);
  PrefillAttention a;
  a.shape = shape;
  a.unit = 128;
  a.arena = {arena.data(), 2 * 128 * 2};
  a.q_near = a.q_far = q;
  a.q_stride = width;
  a.m = m;
  a.scale = 0.1f;
  a.o_before = a.o32 = o32;
  a.lse_before = a.lse = lse;
  prefill_attention(a, nullptr);
  const std::vector<float> o = o32.host(), l = lse.host();
  for (int64_t i = 0; i < m * width; ++i) ASSERT_NEAR(o[i], zeroed[i], 1e-5 * std::abs(zeroed[i]));
  for (int64_t i = 0; i < m * 8; ++i) {
    if (std::isinf(lse_before[i])) {
      ASSERT_EQ(l[i], -INFINITY);
    } else {
      ASSERT_NEAR(l[i], lse_before[i], 1e-5 * std::abs(lse_before[i]) + 1e-6);
    }
  }
}

TEST_F(PrefillCarry, HalfOfAStateIsRefused) {
  Device<bf16> q(64), o(64);
  Device<float> lse(64);
  ArenaMemory arena(64);
  PrefillAttention a;
  a.shape = {1, 1, 64};
  a.unit = 128;
  a.arena = {arena.data(), 1};
  a.q_near = a.q_far = q;
  a.q_stride = 64;
  a.m = 1;
  a.scale = 1;
  a.o = o;
  a.lse_before = lse;
  EXPECT_THROW(prefill_attention(a, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace ringtide::kernels::cuda

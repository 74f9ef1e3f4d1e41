// Whole sequences on rings of threads, under seeded lengths, shapes, modes and delays: every result
// equals float64 attention over the whole sequence, and the bytes sent are those of the plan.
#include <cmath>

#include "kernels/ring/decode.h"
#include "kernels/ring/prefill.h"
#include "kernels/ring/traffic.h"
#include "tests/kernels/ring/support.h"

namespace ringtide::kernels::ring {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// float32 rounding of weights that sum to one, over values of a few units.
constexpr double kTolerance = 2e-5;

struct Case {
  HeadShape heads;
  int schedules;
  int64_t most_tokens;  // of an append
  microseconds delay;
};

class Schedule {
 public:
  Schedule(const Case& c, uint64_t seed) : case_(c), random_(seed), seed_(seed) {
    SequenceShape shape;
    shape.heads = c.heads;
    shape.unit = uniform(random_, 1, 9);
    shape.shards = uniform(random_, 1, 8);
    shape.type = uniform(random_, 0, 1) ? KvType::F32 : KvType::F16;
    shape.scale = 1 / std::sqrt(static_cast<float>(c.heads.head_dim));
    sequence_ = std::make_unique<Sequence>(shape);
    ring_ = std::make_unique<InProcessRing>(shape.shards, milliseconds(30000));
    for (int s = 0; s < shape.shards; ++s)
      ends_.push_back(std::make_unique<Weather>(ring_->at(s), seed * 8 + s, c.delay));
  }

  void run() {
    for (int64_t appends = uniform(random_, 1, 3); appends > 0; --appends) {
      const int64_t n = uniform(random_, 0, 4) == 0 ? 1 : uniform(random_, 0, case_.most_tokens);
      prefill(sequence_->append(random_, n));
      if (testing::Test::HasFailure()) return;
    }
    if (sequence_->placement().tokens() > 0) decode();
  }

 private:
  int shards() const { return sequence_->shape().shards; }

  void prefill(Tokens fresh) {
    const HeadShape& heads = case_.heads;
    const Placement& placement = sequence_->placement();
    Sizes sizes;
    sizes.kv_block = int64_t{2} * heads.kv_heads * placement.unit() * heads.head_dim *
                     kv_bytes(sequence_->shape().type);
    sizes.query = sequence_->row() * 4;
    sizes.partial = (sequence_->row() + heads.heads) * 4;
    const int64_t kind = uniform(random_, 0, 2);
    const Mode mode = kind == 0   ? Mode::PassKv
                      : kind == 1 ? Mode::PassQ
                                  : choose(placement, fresh, sizes);
    std::vector<std::vector<float>> o(shards()), lse(shards());
    std::vector<uint64_t> next(shards());
    const auto thrown = on_shards(shards(), [&](int s) {
      ThreadPool threads(1);
      const std::vector<float> q = sequence_->queries(s, fresh);
      o[s].assign(q.size(), NAN);
      lse[s].assign(q.size() / heads.head_dim, NAN);
      Prefill prefill(make_plan(placement, fresh, mode, s),
                      {heads, sequence_->shape().type, sequence_->shape().scale});
      next[s] = prefill.run(sequence_->kv(s), q.data(), o[s].data(), lse[s].data(), number_,
                            *ends_[s], threads);
    });
    int64_t bytes = 0;
    for (int s = 0; s < shards(); ++s) {
      ASSERT_EQ(thrown[s], "");
      ASSERT_EQ(next[s], next[0]);
      bytes += ring_->sent(s);
    }
    number_ = next[0];
    ASSERT_EQ(bytes - sent_, traffic(placement, fresh, mode, sizes).all());
    const Mode other = mode == Mode::PassKv ? Mode::PassQ : Mode::PassKv;
    if (kind == 2) {
      ASSERT_LE(bytes - sent_, traffic(placement, fresh, other, sizes).all());
    }
    sent_ = bytes;
    for (int s = 0; s < shards(); ++s) {
      int64_t row = 0;
      for (const Tokens& run : placement.runs(s, fresh)) {
        for (int64_t t = run.begin; t < run.end; ++t, ++row) {
          // Every query; of its heads one, another each time.
          const int head = (t + row) % heads.heads;
          expect(t, head, o[s].data() + row * sequence_->row(), lse[s].data() + row * heads.heads);
        }
      }
    }
  }

  void decode() {
    const HeadShape& heads = case_.heads;
    // The last token, and one before it: rows may stand anywhere.
    const int64_t last = sequence_->placement().tokens() - 1;
    const std::vector<int64_t> positions = {last, uniform(random_, 0, last)};
    std::vector<float> q;
    for (int64_t p : positions)
      q.insert(q.end(), sequence_->query(p), sequence_->query(p) + sequence_->row());
    std::vector<std::vector<float>> o(shards()), lse(shards());
    const auto thrown = on_shards(shards(), [&](int s) {
      ThreadPool threads(1);
      const std::vector<KvBlock> blocks = sequence_->blocks(s);
      std::vector<DecodeRow> rows;
      for (int64_t p : positions) rows.push_back({p, blocks, {}});
      o[s].assign(q.size(), NAN);
      lse[s].assign(q.size() / heads.head_dim, NAN);
      Decode(heads, shards())
          .run(rows, q.data(), sequence_->shape().scale, o[s].data(), lse[s].data(), number_,
               *ends_[s], threads);
    });
    ++number_;
    for (int s = 0; s < shards(); ++s) {
      ASSERT_EQ(thrown[s], "");
      ASSERT_TRUE(same_bits(o[s], o[0]) && same_bits(lse[s], lse[0])) << "shards differ";
    }
    for (size_t i = 0; i < positions.size(); ++i)
      for (int h = 0; h < heads.heads; ++h)
        expect(positions[i], h, o[0].data() + i * sequence_->row(),
               lse[0].data() + i * heads.heads);
  }

  void expect(int64_t position, int head, const float* o, const float* lse) {
    const SlowResult want = sequence_->slow(position, head);
    ASSERT_NEAR(lse[head], want.lse[0], kTolerance) << "query " << position << " head " << head;
    for (int d = 0; d < case_.heads.head_dim; ++d)
      ASSERT_NEAR(o[head * case_.heads.head_dim + d], want.o[d], kTolerance)
          << "query " << position << " head " << head << " of " << shards() << " shards";
  }

  Case case_;
  Random random_;
  uint64_t seed_;
  std::unique_ptr<Sequence> sequence_;
  std::unique_ptr<InProcessRing> ring_;
  std::vector<std::unique_ptr<Weather>> ends_;
  uint64_t number_ = 0;
  int64_t sent_ = 0;
};

class Schedules : public testing::TestWithParam<Case> {};

TEST_P(Schedules, EqualOneShard) {
  for (int i = 0; i < GetParam().schedules; ++i) {
    Schedule(GetParam(), 1000003u * i + GetParam().heads.heads).run();
    if (HasFailure()) FAIL() << "schedule " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Schedules,
                         testing::Values(Case{{4, 1, 8}, 2000, 40, microseconds(0)},
                                         Case{{4, 1, 8}, 200, 40, microseconds(400)},
                                         Case{{9, 3, 64}, 250, 60, microseconds(0)},
                                         Case{{32, 8, 16}, 250, 60, microseconds(0)},
                                         Case{{8, 8, 16}, 250, 60, microseconds(0)},
                                         Case{{9, 3, 64}, 4, 700, microseconds(100)}),
                         [](const testing::TestParamInfo<Case>& info) {
                           const Case& c = info.param;
                           return std::to_string(c.heads.heads) + "_" +
                                  std::to_string(c.heads.kv_heads) + "_" +
                                  std::to_string(c.most_tokens) +
                                  (c.delay.count() ? "_delays" : "");
                         });

}  // namespace
}  // namespace ringtide::kernels::ring

#include "tests/kernels/cuda/attention_case.h"

namespace ringtide::kernels::cuda {
namespace {

struct DecodeAttentionTest : DeviceTest {
  struct Result {
    std::vector<bf16> o;
    std::vector<float> lse;
  };

  Result run(const Heads& shape, int unit, int32_t offset, const std::vector<HostLists>& rows,
             const Device<bf16>& arena, int64_t arena_rows, const bf16* q_near, const bf16* q_far) {
    const int32_t n = static_cast<int32_t>(rows.size());
    std::vector<std::unique_ptr<DeviceLists>> lists;
    std::vector<Lists> views;
    std::vector<int64_t> positions;
    std::vector<Band> near, far;
    DecodeAttention a;
    for (const HostLists& row : rows) {
      lists.push_back(std::make_unique<DeviceLists>(row, offset));
      views.push_back(lists.back()->view());
      positions.push_back(row.position);
      near.push_back(row.near_band);
      far.push_back(row.far_band);
      a.max_near = std::max(a.max_near, static_cast<int32_t>(row.near.size()));
      a.max_far = std::max(a.max_far, static_cast<int32_t>(row.far.size()));
      a.max_units = std::max(a.max_units, static_cast<int32_t>(row.units.size()));
    }
    const int64_t queries = int64_t{n} * shape.heads;
    Device<Lists> dlists(views);
    Device<int64_t> dpositions(positions);
    Device<Band> dnear(near), dfar(far);
    Device<bf16> o(queries * shape.head_dim);
    Device<float> lse(queries);
    Device<float> scratch(decode_attention_scratch(shape, n, a.max_near + a.max_far + a.max_units));
    a.shape = shape;
    a.unit = unit;
    a.arena = {arena, arena_rows};
    a.rows = n;
    a.q_near = q_near;
    a.q_far = q_far;
    a.position = dpositions;
    a.lists = dlists;
    a.row_offset = offset;
    a.near_band = dnear;
    a.far_band = dfar;
    a.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
    a.o = o;
    a.lse = lse;
    a.scratch = scratch;
    decode_attention(a, nullptr);
    return {o.host(), lse.host()};
  }
};

// Rows of every kind: nothing to see; the window alone; sinks, overflow and units; a long list, cut
// into many splits; blocks that the bands hide in part or wholly.
TEST_F(DecodeAttentionTest, AgreesWithDoubleAndDoesNotDependOnTheBatch) {
  for (const Heads& shape : kShapes) {
    for (const int unit : {8, 24, 64, 128}) {
      const int long_list = unit == 128 ? 200 : 90;
      TestArena arena(shape, unit, 2 * (long_list + 60), 3 * unit);
      std::vector<HostLists> rows(6);
      const auto fill = [&](HostLists& row, int near, int far, int units) {
        const int64_t page = 1000 * between(random, 0, 5);
        row.position = (page + near) * unit - between(random, 1, unit);
        for (int i = 0; i < near; ++i)
          row.near.push_back(
              arena.block(random, 0, i + 1 < near ? unit : unit / 2, (page + i) * unit, false));
        for (int i = 0; i < far; ++i)
          row.far.push_back(arena.block(random, 1, unit - 3, i * unit - 100000, false));
        for (int i = 0; i < units; ++i)
          row.units.push_back(arena.block(random, i == 0 ? 4 : 0, unit, i * unit - 50000, true));
      };
      fill(rows[1], 1, 0, 0);
      fill(rows[2], 3, 2, 4);
      fill(rows[3], 1, 1, long_list);
      fill(rows[4], 9, 1, 0);
      rows[4].near_band = {0, 5 * unit + 3};
      rows[4].far_band = {5 * unit + 4};
      rows[5].far = {arena.block(random, 2, 2, 0, false)};  // an empty block

      const int32_t n = static_cast<int32_t>(rows.size());
      const int64_t row_size = int64_t{shape.heads} * shape.head_dim;
      const auto near = normals_bf16(random, n * row_size, 1.5),
                 far = normals_bf16(random, n * row_size, 1.5);
      Device<bf16> darena(arena.values()), dnear(near), dfar(far);
      const int64_t arena_rows = static_cast<int64_t>(arena.values().size()) / shape.head_dim;
      const Result got = run(shape, unit, 3 * unit, rows, darena, arena_rows, dnear, dfar);

      std::vector<double> want;
      for (int32_t r = 0; r < n; ++r) {
        for (int h = 0; h < shape.heads; ++h) {
          const int64_t at = r * row_size + h * shape.head_dim;
          const Attended one = attend_in_double(
              arena, shape, unit, rows[r], 3 * unit, rows[r].position, h, near.data() + at,
              far.data() + at, 1 / std::sqrt(static_cast<float>(shape.head_dim)));
          want.insert(want.end(), one.o.begin(), one.o.end());
          const float lse = got.lse[r * shape.heads + h];
          if (std::isinf(one.lse)) {
            EXPECT_EQ(lse, -INFINITY);
            for (int d = 0; d < shape.head_dim; ++d) ASSERT_EQ(value(got.o[at + d]), 0);
          } else {
            EXPECT_NEAR(lse, one.lse, 2e-5);
          }
        }
      }
      EXPECT_LT(error(got.o, want), 4e-3) << shape.heads << " heads, unit " << unit;

      for (int32_t r = 0; r < n; ++r) {
        const Result alone = run(shape, unit, 3 * unit, {rows[r]}, darena, arena_rows,
                                 dnear + r * row_size, dfar + r * row_size);
        EXPECT_TRUE(same_bits(alone.o, part(got.o, r * row_size, row_size)));
        EXPECT_TRUE(same_bits(alone.lse, part(got.lse, r * shape.heads, shape.heads)));
      }
    }
  }
}

TEST_F(DecodeAttentionTest, NoRowsAndOtherHeadSizes) {
  DecodeAttention a;
  decode_attention(a, nullptr);
  a.rows = 1;
  a.shape = {4, 4, 96};
  EXPECT_THROW(decode_attention(a, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace ringtide::kernels::cuda

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <set>

#include "kernels/cuda/lookup.h"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {
namespace {

// The index of one sequence.
class TestIndex {
 public:
  TestIndex(std::mt19937_64& random, const Heads& shape, int layers, int units)
      : row_(int64_t{shape.heads} * shape.head_dim), layers_(layers) {
    for (int g = 0; g * kIndexGroup < units; ++g) {
      values.push_back(normals_bf16(random, layers * kIndexGroup * row_, 0.5f));
    }
  }
  bf16* at(int layer, int unit) {
    return values[unit / kIndexGroup].data() +
           (int64_t{layer} * kIndexGroup + unit % kIndexGroup) * row_;
  }
  void upload() {
    std::vector<const bf16*> list;
    for (const auto& group : values) {
      groups_.push_back(std::make_unique<Device<bf16>>(group));
      list.push_back(*groups_.back());
    }
    pointers_ = std::make_unique<Device<const bf16*>>(list);
  }
  const bf16* const* pointers() const { return pointers_ ? pointers_->data() : nullptr; }

  std::vector<std::vector<bf16>> values;

 private:
  int64_t row_;
  int layers_;
  std::vector<std::unique_ptr<Device<bf16>>> groups_;
  std::unique_ptr<Device<const bf16*>> pointers_;
};

struct LookupTest : DeviceTest {
  std::vector<double> relevance(TestIndex& index, const Heads& shape, int layer, const bf16* q,
                                int first, int sealed, Vote vote) {
    std::vector<double> sum(sealed);
    const double scale = 1 / std::sqrt(static_cast<double>(shape.head_dim));
    for (int h = 0; h < shape.heads; ++h) {
      std::vector<double> x(sealed);
      double most = -INFINITY, total = 0;
      for (int u = first; u < sealed; ++u) {
        for (int d = 0; d < shape.head_dim; ++d)
          x[u] +=
              value(q[h * shape.head_dim + d]) * value(index.at(layer, u)[h * shape.head_dim + d]);
        most = std::max(most, x[u]);
      }
      for (int u = first; u < sealed; ++u) total += std::exp((x[u] - most) * scale);
      for (int u = first; u < sealed; ++u)
        sum[u] += vote == Vote::Sum ? x[u] : std::exp((x[u] - most) * scale) / total;
    }
    return sum;
  }

  std::vector<int32_t> choose(Lookup a, const std::vector<Memory>& rows, int32_t max_sealed,
                              int32_t max_select, const bf16* q) {
    a.rows = static_cast<int32_t>(rows.size());
    a.max_sealed = max_sealed;
    a.max_select = max_select;
    a.q = q;
    Device<Memory> memory(rows);
    Device<float> scratch(lookup_scratch(a.shape, a.rows, max_sealed, max_select));
    Device<int32_t> chosen(int64_t{a.rows} * max_select);
    a.memory = memory;
    a.scratch = scratch;
    a.chosen = chosen;
    choose_units(a, nullptr);
    return chosen.host();
  }
};

TEST_F(LookupTest, ChoosesTheMostRelevant) {
  for (const Heads& shape : kShapes) {
    for (const Vote vote : {Vote::Sum, Vote::Softmax}) {
      const int layers = 2, layer = 1, max_sealed = 1300, max_select = 16;
      const int64_t row = int64_t{shape.heads} * shape.head_dim;
      const std::vector<int> sealed = {0, 5, 16, 17, 64, 65, 1300};
      std::vector<Memory> rows;
      std::vector<std::unique_ptr<TestIndex>> indices;
      for (const int n : sealed) {
        indices.push_back(std::make_unique<TestIndex>(random, shape, layers, n));
        indices.back()->upload();
        rows.push_back({indices.back()->pointers(), n, n == 64 ? 1 : 0, n == 1300 ? 7 : 16});
      }
      const auto q = normals_bf16(random, row * static_cast<int64_t>(rows.size()));
      Device<bf16> dq(q);
      Lookup a;
      a.shape = shape;
      a.layers = layers;
      a.layer = layer;
      a.vote = vote;
      const auto got = choose(a, rows, max_sealed, max_select, dq);
      for (size_t r = 0; r < rows.size(); ++r) {
        const Memory& m = rows[r];
        const auto chosen = part(got, static_cast<int64_t>(r) * max_select, max_select);
        const int wanted = std::min(m.select, m.sealed - m.first);
        std::set<int> set(chosen.begin(), chosen.begin() + wanted);
        ASSERT_EQ(static_cast<int>(set.size()), wanted);
        EXPECT_TRUE(std::is_sorted(chosen.begin(), chosen.begin() + wanted));
        for (int i = wanted; i < max_select; ++i) EXPECT_EQ(chosen[i], -1);
        const auto want =
            relevance(*indices[r], shape, layer, q.data() + r * row, m.first, m.sealed, vote);
        double worst = INFINITY, best_left = -INFINITY;
        for (int u = m.first; u < m.sealed; ++u) {
          if (set.count(u)) {
            worst = std::min(worst, want[u]);
          } else {
            best_left = std::max(best_left, want[u]);
          }
        }
        for (const int u : set) EXPECT_GE(u, m.first);
        // Float32 may see two that are this close in the other order.
        if (wanted > 0) EXPECT_GT(worst, best_left - 1e-5 * std::abs(best_left)) << r;
        // A row alone, with bounds of its own, chooses the same.
        const auto alone = choose(a, {m}, std::max(m.sealed, 1), max_select, dq + r * row);
        EXPECT_EQ(alone, chosen);
      }
    }
  }
}

TEST_F(LookupTest, TiesGoToTheLowerUnit) {
  const Heads shape{8, 2, 64};
  const int64_t row = shape.heads * shape.head_dim;
  const int units = 3000;
  TestIndex index(random, shape, 1, units);
  // Every 10th unit is the same, and points along the query.
  const auto q = normals_bf16(random, row);
  for (int u = 0; u < units; u += 10) std::copy(q.begin(), q.end(), index.at(0, u));
  index.upload();
  Lookup a;
  a.shape = shape;
  a.layers = 1;
  Device<bf16> dq(q);
  for (const int select : {1, 3, 200}) {
    const auto got = choose(a, {{index.pointers(), units, 5, select}}, units, select, dq);
    for (int i = 0; i < select; ++i) EXPECT_EQ(got[i], 10 * (i + 1));
  }
}

// Plays random lookups against a model of the cache in plain code. One row is a shard's, which has a
// third of the units.
TEST_F(LookupTest, PlacesUnitsInTheSlotsUsedLongestAgo) {
  for (const Heads& shape : {Heads{9, 3, 64}, Heads{32, 8, 128}, Heads{4, 1, 256}}) {
    const int unit = 24, layers = 3, layer = 2, units = 40, select = 6, slot_count = 13, rows = 3;
    const int64_t chunk = int64_t{2} * shape.kv_heads * unit * shape.head_dim;  // values
    const int32_t slot_rows = 2 * shape.kv_heads * unit, first_row = 5;
    const int64_t arena_rows = first_row + int64_t{rows} * slot_count * slot_rows;
    Device<bf16> arena(arena_rows * shape.head_dim);
    // Payloads: most in pinned host memory, some on the device, some nowhere.
    bf16* pinned = nullptr;
    check(cudaMallocHost(&pinned, units * layers * chunk * sizeof(bf16)), "pinned");
    const auto values = normals_bf16(random, units * layers * chunk);
    std::copy(values.begin(), values.end(), pinned);
    Device<bf16> on_device(part(values, 7 * layers * chunk, layers * chunk));
    std::vector<const std::byte*> payload;
    for (int u = 0; u < units; ++u)
      payload.push_back(reinterpret_cast<const std::byte*>(pinned + u * layers * chunk));
    payload[7] = reinterpret_cast<const std::byte*>(on_device.data());
    payload[11] = payload[30] = nullptr;
    Device<const std::byte*> dpayload(payload);

    Device<int32_t> slot_unit(std::vector<int32_t>(rows * slot_count, -1));
    Device<int64_t> slot_used(std::vector<int64_t>(rows * slot_count, 0));
    std::vector<Slots> slots;
    std::vector<Memory> memory;
    for (int r = 0; r < rows; ++r) {
      slots.push_back({slot_unit + r * slot_count, slot_used + r * slot_count,
                       first_row + r * slot_count * slot_rows, slot_count});
      memory.push_back({nullptr, units, 0, select, dpayload, 4});
    }
    memory[2].shard = 1;
    memory[2].shards = 3;
    Device<Slots> dslots(slots);
    Device<Memory> dmemory(memory);
    Device<int32_t> chosen(rows * select), counts(rows), missing(rows * select);
    Device<KvRef> refs(rows * select);
    Device<LookupCounts> totals(rows);
    totals.zero();
    Device<int64_t> tick(1);
    Device<float> scratch(lookup_scratch(shape, rows, units, select));
    Lookup a;
    a.shape = shape;
    a.unit = unit;
    a.layers = layers;
    a.layer = layer;
    a.rows = rows;
    a.memory = dmemory;
    a.slots = dslots;
    a.max_sealed = units;
    a.max_select = select;
    a.tick = tick;
    a.scratch = scratch;
    a.chosen = chosen;
    a.refs = refs;
    a.counts = counts;
    a.missing = missing;
    a.totals = totals;
    a.arena = {arena, arena_rows};

    struct Slot {
      int unit = -1;
      int64_t used = -1;
    };
    std::vector<std::vector<Slot>> model(rows, std::vector<Slot>(slot_count));
    std::vector<LookupCounts> want_totals(rows);
    for (int64_t now = 1; now < 30; ++now) {
      // Two lookups a tick, as two blocks of one pass make them; some come late, as guesses do.
      const int64_t when = now % 5 == 4 ? now / 2 - 3 : now / 2;
      tick.set({when});
      std::vector<int32_t> picks;
      for (int r = 0; r < rows; ++r) {
        std::set<int32_t> set;
        const int n = static_cast<int>(between(random, r == 0 ? 0 : 1, select));
        while (static_cast<int>(set.size()) < n)
          set.insert(static_cast<int32_t>(between(random, 0, now < 8 ? 8 : units - 1)));
        std::vector<int32_t> one(set.begin(), set.end());
        one.resize(select, -1);
        picks.insert(picks.end(), one.begin(), one.end());
      }
      chosen.set(picks);
      assign_slots(a, nullptr);
      fetch_units(a, nullptr);
      const auto got_refs = refs.host();
      const auto got_counts = counts.host(), got_missing = missing.host();
      const auto got_arena = arena.host();
      for (int r = 0; r < rows; ++r) {
        auto& cache = model[r];
        const auto pick = part(picks, r * select, select);
        const auto find = [&](int u) {
          return std::find_if(cache.begin(), cache.end(),
                              [u](const Slot& s) { return s.unit == u; });
        };
        std::vector<bool> busy(slot_count);
        const auto here = [&](int u) { return u >= 0 && u % memory[r].shards == memory[r].shard; };
        for (const int u : pick)
          if (here(u) && find(u) != cache.end()) busy[find(u) - cache.begin()] = true;
        std::vector<int> present, lost;
        for (const int u : pick) {
          if (!here(u)) continue;
          if (find(u) != cache.end()) {
            ++want_totals[r].hits;
          } else if (!payload[u]) {
            ++want_totals[r].missing;
            lost.push_back(u);
            continue;
          } else {
            ++want_totals[r].fetched;
            int oldest = -1;
            for (int s = 0; s < slot_count; ++s)
              if (!busy[s] && (oldest < 0 || cache[s].used < cache[oldest].used)) oldest = s;
            cache[oldest] = {u, when};
            busy[oldest] = true;
          }
          find(u)->used = std::max(find(u)->used, when);
          present.push_back(u);
        }
        ASSERT_EQ(got_counts[r], static_cast<int>(present.size()));
        lost.resize(select, -1);
        ASSERT_EQ(part(got_missing, r * select, select), lost);
        for (size_t i = 0; i < present.size(); ++i) {
          const KvRef& ref = got_refs[r * select + i];
          const int u = present[i];
          const int32_t k_row =
              slots[r].first_row + static_cast<int32_t>(find(u) - cache.begin()) * slot_rows;
          ASSERT_EQ(ref.k_row, k_row) << "tick " << now << " unit " << u;
          ASSERT_EQ(ref.v_row, k_row + shape.kv_heads * unit);
          ASSERT_EQ(ref.begin, u == 0 ? 4 : 0);
          ASSERT_EQ(ref.end, unit);
          ASSERT_EQ(ref.position, int64_t{u} * unit);
          ASSERT_TRUE(same_bits(part(got_arena, int64_t{k_row} * shape.head_dim, chunk),
                                part(values, (u * layers + layer) * chunk, chunk)));
        }
      }
    }
    const auto got = totals.host();
    for (int r = 0; r < rows; ++r) {
      EXPECT_EQ(got[r].hits, want_totals[r].hits);
      EXPECT_EQ(got[r].fetched, want_totals[r].fetched);
      EXPECT_EQ(got[r].missing, want_totals[r].missing);
      EXPECT_GT(got[r].hits, 0);
    }
    cudaFreeHost(pinned);
  }
}

// A guess of six units, the most relevant first, of which some copies have begun when the lookup
// comes: what has begun is found in slots, what has not is copied then, or never.
TEST_F(LookupTest, ALookupEndsTheGuessBeforeIt) {
  const Heads shape{8, 2, 64};
  const int unit = 16, units = 70, select = 6, slot_count = 12;
  const int64_t row = int64_t{shape.heads} * shape.head_dim;
  const int64_t chunk = int64_t{2} * shape.kv_heads * unit * shape.head_dim;
  const int32_t slot_rows = 2 * shape.kv_heads * unit;
  // Every 7th unit points along the query, two of them with more strength; the others are zero.
  const auto q = normals_bf16(random, row);
  TestIndex index(random, shape, 1, units);
  for (int u = 0; u < units; ++u) {
    const double strength = u == 41 ? 2 : u == 20 ? 1.5 : u % 7 == 6 ? 1 : 0;
    for (int64_t i = 0; i < row; ++i)
      index.at(0, u)[i] = __float2bfloat16_rn(static_cast<float>(value(q[i]) * strength));
  }
  index.upload();
  const std::vector<int32_t> guessed = {6, 13, 20, 27, 34, 41};  // in order of units
  const std::vector<int32_t> in_order = {41, 20, 6, 13, 27, 34};  // of relevance

  bf16* pinned = nullptr;
  check(cudaMallocHost(&pinned, units * chunk * sizeof(bf16)), "pinned");
  const auto values = normals_bf16(random, units * chunk);
  std::copy(values.begin(), values.end(), pinned);
  std::vector<const std::byte*> payload;
  for (int u = 0; u < units; ++u)
    payload.push_back(reinterpret_cast<const std::byte*>(pinned + u * chunk));
  Device<const std::byte*> dpayload(payload);
  Device<Memory> memory(std::vector<Memory>{{index.pointers(), units, 0, select, dpayload, 0}});
  Device<bf16> dq(q);
  for (int begun = 0; begun <= select; ++begun) {
    SCOPED_TRACE(begun);
    Device<bf16> arena(slot_count * chunk);
    Device<int32_t> slot_unit(std::vector<int32_t>(slot_count, -1));
    Device<int32_t> slot_copy(std::vector<int32_t>(slot_count, -1));
    Device<int64_t> slot_used(std::vector<int64_t>(slot_count, 0));
    Device<uint32_t> progress(std::vector<uint32_t>{0});
    Device<Slots> slots(
        std::vector<Slots>{{slot_unit, slot_used, 0, slot_count, slot_copy, progress}});
    Device<int64_t> tick(std::vector<int64_t>{7});
    const std::vector<int32_t> wanted = {6, 7, 20, 34, 41, 60};
    Device<int32_t> chosen(select), counts(1), missing(select), picked(wanted);
    Device<KvRef> refs(select);
    Device<LookupCounts> guess_totals(1), totals(1);
    guess_totals.zero();
    totals.zero();
    Device<float> guess_scratch(lookup_scratch(shape, 1, units, select));
    Device<float> scratch(lookup_scratch(shape, 1, units, select));
    Lookup a;
    a.shape = shape;
    a.unit = unit;
    a.layers = 1;
    a.rows = 1;
    a.q = dq;
    a.memory = memory;
    a.slots = slots;
    a.max_sealed = units;
    a.max_select = select;
    a.tick = tick;
    a.refs = refs;
    a.counts = counts;
    a.missing = missing;
    a.arena = {arena, slot_count * slot_rows};
    Lookup guess = a;
    guess.guess = true;
    guess.scratch = guess_scratch;
    guess.chosen = chosen;
    guess.totals = guess_totals;
    choose_units(guess, nullptr);
    assign_slots(guess, nullptr);
    ASSERT_EQ(chosen.host(), guessed);
    const auto copy_of = slot_copy.host(), unit_of = slot_unit.host();
    for (int s = 0; s < slot_count; ++s) {
      if (copy_of[s] >= 0) EXPECT_EQ(unit_of[s], in_order.at(copy_of[s]));
    }
    // As if so many had begun elsewhere, or, where all have, by copying.
    if (begun == select) {
      fetch_units(guess, nullptr);
      EXPECT_EQ(progress.host()[0], static_cast<uint32_t>(select));
    } else {
      progress.set({static_cast<uint32_t>(begun)});
    }
    const std::set<int32_t> here(in_order.begin(), in_order.begin() + begun);
    a.scratch = scratch;
    a.chosen = picked;
    a.totals = totals;
    assign_slots(a, nullptr);
    if (begun < select) fetch_units(guess, nullptr);  // as one that is still at it
    fetch_units(a, nullptr);

    int hits = 0;
    for (const int u : {6, 20, 34, 41}) hits += static_cast<int>(here.count(u));
    EXPECT_EQ(totals.host()[0].hits, hits);
    EXPECT_EQ(totals.host()[0].fetched, select - hits);
    EXPECT_EQ(guess_totals.host()[0].fetched, select);
    EXPECT_EQ(slot_copy.host(), std::vector<int32_t>(slot_count, -1));
    const auto got_refs = refs.host();
    const auto got_arena = arena.host();
    const auto of = [&](int32_t k_row) {
      return part(got_arena, int64_t{k_row} * shape.head_dim, chunk);
    };
    ASSERT_EQ(counts.host()[0], select);
    for (int i = 0; i < select; ++i)
      EXPECT_TRUE(same_bits(of(got_refs[i].k_row), part(values, wanted[i] * chunk, chunk)))
          << "unit " << wanted[i];
    // Of the guess, what had begun is there too and nothing else: all other slots are as they were.
    const auto now = slot_unit.host();
    const std::vector<bf16> untouched = [&] {
      Device<bf16> fresh(chunk);
      return fresh.host();
    }();
    for (int s = 0; s < slot_count; ++s) {
      const auto bits = of(s * slot_rows);
      if (now[s] < 0) {
        EXPECT_TRUE(same_bits(bits, untouched)) << "slot " << s;
      } else {
        EXPECT_TRUE(same_bits(bits, part(values, now[s] * chunk, chunk))) << "slot " << s;
      }
    }
    for (const int32_t u : here)
      EXPECT_NE(std::find(now.begin(), now.end(), u), now.end()) << "unit " << u;
  }
  cudaFreeHost(pinned);
}

}  // namespace
}  // namespace ringtide::kernels::cuda

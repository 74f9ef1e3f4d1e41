// One layer of a decode step, captured once and replayed over device data that changed: what a
// replay gives is what the same calls give outside of a graph.
#include <numeric>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/learn.h"
#include "kernels/cuda/lookup.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/sample.h"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr Heads kShape{9, 3, 64};
constexpr int kDim = 64, kUnit = 16, kRows = 3, kHidden = 192, kFeed = 256, kVocabulary = 1000;
constexpr int kPages = 4, kUnits = 70, kSelect = 4, kSlots = 8, kAngles = 128;
constexpr int kPlane = 3 * kUnit;  // KV heads
constexpr int kPageRows = 3 * kPlane;
constexpr int kRow = 9 * kDim, kQkv = 15 * kDim;
constexpr int kSlotsRow = kRows * kPages * kPageRows;
constexpr int kArenaRows = kSlotsRow + kRows * kSlots * 2 * kPlane;

// Everything a step reads and writes.
struct Step {
  std::mt19937_64 random{5};
  Device<bf16> table{normals_bf16(random, kVocabulary* kHidden)};
  Device<float> norm{normals(random, kHidden)};
  Device<bf16> wqkv{normals_bf16(random, kQkv* kHidden, 0.1f)};
  Device<bf16> wo{normals_bf16(random, kHidden* kRow, 0.05f)};
  Device<bf16> wgate{normals_bf16(random, 2 * kFeed * kHidden, 0.1f)};
  Device<bf16> wdown{normals_bf16(random, kHidden* kFeed, 0.05f)};
  Device<float> cos{normals(random, kAngles*kDim / 2)}, sin{normals(random, kAngles*kDim / 2)};
  std::vector<bf16> first_arena = normals_bf16(random, int64_t{kArenaRows} * kDim);
  Device<bf16> arena{first_arena};
  Device<bf16> group0{normals_bf16(random, int64_t{kIndexGroup} * kRow)},
      group1{normals_bf16(random, int64_t{kIndexGroup} * kRow)};
  Device<const bf16*> groups{std::vector<const bf16*>{group0, group1}};
  Device<bf16> payloads{normals_bf16(random, int64_t{kUnits} * 2 * kPlane * kDim)};
  Device<const std::byte*> payload{[this] {
    std::vector<const std::byte*> list;
    for (int u = 0; u < kUnits; ++u)
      list.push_back(reinterpret_cast<const std::byte*>(payloads + int64_t{u} * 2 * kPlane * kDim));
    return list;
  }()};

  Device<int32_t> tokens{kRows}, begin{std::vector{0, 1, 2, 3}}, angle{kRows};
  Device<int64_t> position{kRows}, tick{1};
  Device<TokenPlace> place{kRows};
  Device<KvRef> near_refs{kRows * kPages};
  Device<int32_t> near_counts{kRows};
  Device<Band> near_band{kRows}, far_band{kRows};
  Device<Memory> memory{kRows};
  Device<Slots> slots{kRows};
  Device<LearnRun> runs{kRows};
  Device<SampleRow> requests{kRows};

  Device<float> x{kRows * kHidden};
  Device<bf16> normed{kRows * kHidden}, qkv{kRows * kQkv}, near{kRows * kRow}, far{kRows * kRow},
      raw{kRows * kRow}, mean{kRows * kRow}, o{kRows * kRow}, gated{kRows * 2 * kFeed},
      fed{kRows * kFeed};
  Device<float> query_sums{kRows * kRow}, own_sums{kRows * 9 * kUnit},
      leaving_sums{kRows * 9 * kUnit};
  Device<int32_t> slot_unit{kRows * kSlots}, chosen{kRows * kSelect}, counts{kRows},
      missing{kRows * kSelect};
  Device<int64_t> slot_used{kRows * kSlots};
  Device<KvRef> refs{kRows * kSelect};
  Device<LookupCounts> totals{kRows};
  Device<Lists> lists{kRows};
  Device<float> product_scratch{few_rows_scratch(kVocabulary, kRow) + (1 << 20)};
  Device<float> attention_scratch{decode_attention_scratch(kShape, kRows, kPages + kSelect)};
  Device<float> choice_scratch{lookup_scratch(kShape, kRows, 2 * kIndexGroup, kSelect)};
  Device<float> logits{kRows * kVocabulary}, draw_scratch{sample_scratch(kRows, kVocabulary)};

  // State of a step: all a function of the seed.
  void prepare(uint64_t seed) {
    std::mt19937_64 r(seed);
    const int sealed = seed % 2 ? 3 : kUnits;
    arena.set(first_arena);
    for (auto* sums : {&query_sums, &own_sums, &leaving_sums}) sums->zero();
    product_scratch.zero();
    totals.zero();
    slot_unit.set(std::vector<int32_t>(kRows * kSlots, -1));
    slot_used.set(std::vector<int64_t>(kRows * kSlots, 0));
    tick.set({static_cast<int64_t>(seed)});
    std::vector<int32_t> t, angles, n;
    std::vector<int64_t> p;
    std::vector<TokenPlace> places;
    std::vector<KvRef> pages(kRows * kPages);
    std::vector<Band> bands(kRows, {0, 40}), far_bands(kRows, {41});
    std::vector<Memory> m;
    std::vector<Slots> s;
    std::vector<LearnRun> l;
    std::vector<SampleRow> samples;
    std::vector<Lists> all;
    for (int i = 0; i < kRows; ++i) {
      const int count = static_cast<int>(between(r, 1, kPages));
      const int at = static_cast<int>(between(r, 0, kUnit - 1));
      const int64_t here = (sealed + count - 1) * kUnit + at;
      const auto page = [&](int j) { return (i * kPages + j) * kPageRows; };
      t.push_back(static_cast<int32_t>(between(r, 0, kVocabulary - 1)));
      angles.push_back(static_cast<int32_t>(between(r, 0, kAngles - 1)));
      n.push_back(count);
      p.push_back(here);
      places.push_back({page(count - 1) + at, page(count - 1) + kPlane + at,
                        page(count - 1) + 2 * kPlane + at, angles.back(), 3});
      for (int j = 0; j < count; ++j)
        pages[i * kPages + j] = {page(j) + kPlane, page(j) + 2 * kPlane, 0,
                                 j + 1 < count ? kUnit : at + 1, (sealed + j) * kUnit};
      m.push_back({groups, sealed, 0, kSelect, payload, 2});
      s.push_back({slot_unit + i * kSlots, slot_used + i * kSlots,
                   kSlotsRow + i * kSlots * 2 * kPlane, kSlots});
      l.push_back({i, i + 1, here, query_sums + i * kRow, page(count - 1) + kPlane, at + 1,
                   here - at, own_sums + i * 9 * kUnit, page(0) + kPlane, sealed * kUnit,
                   leaving_sums + i * 9 * kUnit});
      samples.push_back({i == 0 ? 0.0f : 1.0f, 0, 0.9f, 0, 1.1f,
                         std::uniform_real_distribution<double>()(r), tokens, 1});
      all.push_back({{near_refs + i * kPages, near_counts + i, kPages, 0},
                     {},
                     {refs + i * kSelect, counts + i, kSelect, 0}});
    }
    tokens.set(t);
    angle.set(angles);
    near_counts.set(n);
    position.set(p);
    place.set(places);
    near_refs.set(pages);
    near_band.set(bands);
    far_band.set(far_bands);
    memory.set(m);
    slots.set(s);
    runs.set(l);
    requests.set(samples);
    lists.set(all);
    check(cudaDeviceSynchronize(), "prepare");
  }

  void product(const bf16* from, const bf16* w, int64_t n, int64_t k, bf16* y, float* y32,
               cudaStream_t stream) {
    few_rows({from, w, kRows, n, k, y, y32, y || y32 == logits ? Write::Replace : Write::Add,
              product_scratch},
             stream);
  }

  void run(cudaStream_t stream) {
    const Arena of{arena, kArenaRows};
    embed(tokens, table, kRows, kHidden, 1, x, stream);
    rms_norm(x, norm, 1e-5f, kRows, kHidden, normed, stream);
    product(normed, wqkv, kQkv, kHidden, qkv, nullptr, stream);
    split_qkv({kShape, kUnit, of, qkv, nullptr, nullptr, nullptr, 0, cos, sin, place, 0, kRows,
               near, far, raw},
              stream);
    Learn all;
    all.shape = kShape;
    all.unit = kUnit;
    all.arena = of;
    all.q = near;
    all.runs = runs;
    all.run_count = kRows;
    all.window = 41;
    all.scale = 0.125f;
    all.max_queries = 1;
    learn(all, stream);
    mean_query(kShape, raw, begin, angle, kRows, cos, sin, mean, stream);
    const Lookup lookup{kShape,
                        kUnit,
                        1,
                        0,
                        kRows,
                        mean,
                        memory,
                        slots,
                        2 * kIndexGroup,
                        kSelect,
                        Vote::Softmax,
                        0,
                        tick,
                        false,
                        choice_scratch,
                        chosen,
                        refs,
                        counts,
                        missing,
                        totals,
                        of};
    choose_units(lookup, stream);
    assign_slots(lookup, stream);
    fetch_units(lookup, stream);
    decode_attention({kShape, kUnit, of, kRows, near, far, position, lists, kPages, 0, kSelect, 0,
                      near_band, far_band, 0.125f, o, nullptr, nullptr, attention_scratch},
                     stream);
    product(o, wo, kHidden, kRow, nullptr, x, stream);
    rms_norm(x, norm, 1e-5f, kRows, kHidden, normed, stream);
    product(normed, wgate, 2 * kFeed, kHidden, gated, nullptr, stream);
    gate_mul(gated, kRows, kFeed, Gate::Silu, fed, stream);
    product(fed, wdown, kHidden, kFeed, nullptr, x, stream);
    rms_norm(x, norm, 1e-5f, kRows, kHidden, normed, stream);
    product(normed, table, kVocabulary, kHidden, nullptr, logits, stream);
    sample(logits, kRows, kVocabulary, requests, tokens, draw_scratch, stream);
  }

  struct Result {
    std::vector<float> x, sums;
    std::vector<int32_t> tokens, chosen;
    std::vector<bf16> arena;
  };
  Result result() {
    return {x.host(), own_sums.host(), tokens.host(), chosen.host(), arena.host()};
  }
};

struct DecodeGraph : DeviceTest {};

TEST_F(DecodeGraph, ReplaysGiveWhatTheCallsGive) {
  Step step;
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  step.prepare(1);
  step.run(stream);  // so that nothing is loaded for the first time while capturing
  check(cudaStreamSynchronize(stream), "run");
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  step.run(stream);
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&replay, graph, 0), "instantiate");
  std::vector<int32_t> last;
  for (const uint64_t seed : {11, 12, 13, 14}) {
    step.prepare(seed);
    step.run(stream);
    const auto want = step.result();
    step.prepare(seed);
    check(cudaGraphLaunch(replay, stream), "replay");
    const auto got = step.result();
    EXPECT_TRUE(same_bits(got.x, want.x));
    EXPECT_TRUE(same_bits(got.sums, want.sums));
    EXPECT_TRUE(same_bits(got.arena, want.arena));
    EXPECT_EQ(got.tokens, want.tokens);
    EXPECT_EQ(got.chosen, want.chosen);
    for (const float f : got.x) ASSERT_TRUE(std::isfinite(f));
    EXPECT_NE(got.tokens, last);
    last = got.tokens;
  }
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace ringtide::kernels::cuda

// Rings over the GPUs that are here, and against one of them. Without a GPU everything skips, with
// a reason. Two shards may share a GPU.
#include <algorithm>
#include <cstdlib>
#include <map>

#include "kernels/gpu_load.h"
#include "tests/model/gpu_ring_kind.h"

namespace ringtide::testing {
namespace {

// Null: there is no such GPU.
std::shared_ptr<kernels::Gpu> device(int index) { return kernels::open_gpu(index).gpu; }

int devices() {
  static const int n = [] {
    // Shards that share a GPU: a kernel that is loaded when it first runs would wait for another
    // shard's exchange, which waits for this one.
    setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    int found = 0;
    while (device(found)) ++found;
    return found;
  }();
  return n;
}

std::shared_ptr<kernels::Gpu> open_next(int shard) { return device(shard % devices()); }

EngineKind wide(EngineKind kind) {
  kind.shape.heads = 4;
  kind.shape.kv_heads = 2;
  kind.shape.head_dim = 128;
  return kind;
}

INSTANTIATE_TEST_SUITE_P(Device, GpuRing, ::testing::ValuesIn([]() -> std::vector<EngineKind> {
                           if (devices() == 0) return {};
                           std::vector<EngineKind> kinds = {
                               gpu_ring_kind("Two", 2, open_next),
                               wide(gpu_ring_kind("TwoOfWideHeads", 2, open_next)),
                               gpu_ring_kind("TwoPassingQ", 2, open_next,
                                             kernels::ring::Mode::PassQ)};
                           // Of three on one GPU, one was seen to wait for an exchange until the
                           // deadline: the driver does not promise that kernels that wait for each
                           // other run at once.
                           if (devices() > 1) kinds.push_back(gpu_ring_kind("Three", 3, open_next));
                           return kinds;
                         }()));
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GpuRing);

// What engines do under all policies.
std::vector<EngineKind> all_policies() {
  if (devices() == 0) return {};
  return {gpu_ring_of_all("Two", 2, open_next)};
}
INSTANTIATE_TEST_SUITE_P(DeviceRing, AnyEngine, ::testing::ValuesIn(all_policies()));
INSTANTIATE_TEST_SUITE_P(DeviceRing, AnyRestore, ::testing::ValuesIn(all_policies()));
INSTANTIATE_TEST_SUITE_P(DeviceRing, GpuEngine, ::testing::ValuesIn(all_policies()));

TEST(GpuRingModes, HaveTheSameBits) {
  if (devices() == 0) GTEST_SKIP() << kernels::open_gpu().reason;
  const auto logits = logits_either_way(open_next);
  EXPECT_EQ(logits[0], logits[1]);
}

// Logits along the same tokens; those that one GPU tells apart by little may be told apart
// otherwise.
TEST(GpuRingTokens, EqualThoseOfOneGpu) {
  if (devices() == 0) GTEST_SKIP() << kernels::open_gpu().reason;
  const EngineKind kind = wide(gpu_ring_kind("", 2, open_next));
  const SmallModel m = small_model(5, kind.shape);
  MemoryUnits units;
  EngineOptions options;
  options.gpu_memory = int64_t{128} << 20;
  const auto ring = kind.make(m.model, options, units);
  options.pass_tokens = 1024;
  const auto one = model::make_gpu_engine(device(0), m.model, options, units);
  PolicyConfig p;
  p.kind = PolicyKind::Exact;
  p.window = p.block = 512;
  const auto prompt = random_tokens(9, 3 * 512 + 100);
  const std::vector<int32_t> lengths = {512, 512, 512, 100};
  for (Engine* e : {ring.get(), one.get()}) {
    e->open(1, p);
    e->prefill(1, prompt, lengths);
  }
  int same = 0;
  for (int step = 0; step < 64; ++step) {
    const auto of_ring = ring->logits(1), of_one = one->logits(1);
    const auto best = std::max_element(of_one.begin(), of_one.end()) - of_one.begin();
    const auto got = std::max_element(of_ring.begin(), of_ring.end()) - of_ring.begin();
    const float size = std::abs(of_one[best]);
    if (got == best)
      ++same;
    else
      EXPECT_LT(of_one[best] - of_one[got], 0.03f * size) << "step " << step;
    for (size_t i = 0; i < of_one.size(); ++i)
      ASSERT_NEAR(of_ring[i], of_one[i], 0.05f * size) << "step " << step << " token " << i;
    const model::DecodeRow row{1, static_cast<TokenId>(best)};
    ring->decode({&row, 1});
    one->decode({&row, 1});
  }
  std::printf("%d of 64 tokens equal\n", same);
  EXPECT_GE(same, 60);
}

// Under `infllm`, along the same tokens: what one GPU tells apart by little may be told apart
// otherwise. So may units, of which random ones are all of about the same relevance: that choices
// are those of the definition is for AnyEngine.
TEST(GpuRingUnits, AreChosenAsByOneGpu) {
  if (devices() == 0) GTEST_SKIP() << kernels::open_gpu().reason;
  EngineKind kind = wide(gpu_ring_of_all("", 2, open_next));
  kind.shape.layers = 4;
  const SmallModel m = small_model(5, kind.shape);
  MemoryUnits of_ring, of_one;
  EngineOptions options;
  options.gpu_memory = int64_t{256} << 20;
  options.ram_budget = int64_t{256} << 20;
  const auto ring = kind.make(m.model, options, of_ring);
  options.pass_tokens = 1024;
  const auto one = model::make_gpu_engine(device(0), m.model, options, of_one);
  PolicyConfig p = small_policy(PolicyKind::InfLlm);
  p.window = 64;
  p.sinks = 16;
  p.unit = 16;
  p.block = 64;
  p.select = 8;
  const auto prompt = random_tokens(9, 40 * 64);
  const std::vector<int32_t> lengths(40, 64);
  for (Engine* e : {ring.get(), one.get()}) {
    e->open(1, p);
    e->prefill(1, prompt, lengths);
  }
  for (Engine* e : {ring.get(), one.get()}) e->last_used(1);  // of the prompt
  int same = 0, chosen = 0, both = 0;
  for (int step = 0; step < 64; ++step) {
    const auto a = ring->logits(1), b = one->logits(1);
    const auto best = std::max_element(b.begin(), b.end()) - b.begin();
    same += std::max_element(a.begin(), a.end()) - a.begin() == best;
    const model::DecodeRow row{1, static_cast<TokenId>(best)};
    ring->decode({&row, 1});
    one->decode({&row, 1});
    std::map<int64_t, int64_t> layers;
    for (const auto& use : one->last_used(1)) {
      chosen += static_cast<int>(use.layers);
      layers[use.unit] = use.layers;
    }
    for (const auto& use : ring->last_used(1))
      both += static_cast<int>(std::min(use.layers, layers[use.unit]));
  }
  std::printf("%d of 64 tokens, %d of %d choices equal\n", same, both, chosen);
  EXPECT_EQ(chosen, 64 * 4 * 8);
  EXPECT_GE(same, 60);
  EXPECT_GE(both, chosen * 2 / 3);  // chance would have 1 of 19
}

}  // namespace
}  // namespace ringtide::testing

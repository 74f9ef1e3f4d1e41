// Time of a token's lookups in contexts of several lengths: the default model's shape, synthetic
// representatives, groups that are in memory.
//
//   lookup_bench [--threads N] [--probe GROUPS]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>

#include "model/infllm_policy.h"

using namespace ringtide;

int main(int argc, char** argv) {
  int n_threads = 2;
  model::PolicyConfig config;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--threads") n_threads = std::stoi(argv[i + 1]);
    if (flag == "--probe") config.probe = std::stoi(argv[i + 1]);
  }
  constexpr int kGroups = 40;  // different ones; more than caches hold
  const model::PageLayout layout{30, {9, 3, 64}, config.unit, kernels::KvType::F16, true};
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> floats(layout.layers * layout.row());
  std::vector<std::byte> unit(layout.unit_index_bytes());
  std::vector<std::shared_ptr<const model::IndexGroup>> groups;
  for (model::UnitIndex some(layout); groups.size() < kGroups;) {
    for (float& x : floats) x = normal(random);
    kernels::to_kv(layout.type, floats.data(), static_cast<int64_t>(floats.size()), unit.data());
    if (auto group = some.add(unit)) groups.push_back(group);
  }
  kernels::ThreadPool threads(n_threads);
  const model::InfLlmPolicy policy(config);
  std::printf("%12s %10s %14s %14s %12s\n", "tokens", "groups", "ms a token", "ms a lookup",
              "bytes/token");
  for (const int64_t tokens : {int64_t{64} << 10, int64_t{256} << 10, int64_t{1} << 20,
                               int64_t{10} << 20, int64_t{100} << 20}) {
    model::UnitIndex index(layout);
    const int64_t full = tokens / config.unit / model::UnitIndex::kGroup;
    for (int64_t g = 0; g < full; ++g) index.add_group(groups[g % kGroups]->summary());
    for (int i = 0; i < 20; ++i) index.add(unit);
    std::vector<float> scratch, query(layout.row());
    std::vector<int64_t> chosen;
    // The best of several passes, each over all layers: what else the machine does counts least.
    double ms = 1e30;
    for (int pass = 0; pass < 20; ++pass) {
      const auto start = std::chrono::steady_clock::now();
      for (int layer = 0; layer < layout.layers; ++layer) {
        for (float& x : query) x = normal(random);
        const std::function fetch = [&](std::span<const int64_t> wanted,
                                        std::vector<const std::byte*>& rows) {
          rows.clear();
          for (const int64_t g : wanted) rows.push_back(groups[g % kGroups]->rows(layer).data());
        };
        policy.select({index, layer, query.data(), index.units(), 0.125f, fetch, threads, scratch},
                      chosen);
      }
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - start;
      ms = std::min(ms, took.count());
    }
    std::printf("%12lld %10lld %14.3f %14.4f %12.2f\n", static_cast<long long>(tokens),
                static_cast<long long>(full), ms, ms / layout.layers,
                static_cast<double>(index.bytes()) / static_cast<double>(tokens));
  }
  return 0;
}

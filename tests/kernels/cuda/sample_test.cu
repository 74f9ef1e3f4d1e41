#include <algorithm>
#include <memory>

#include "kernels/cuda/sample.h"
#include "model/random.h"
#include "model/sampler.h"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {
namespace {

struct SampleTest : DeviceTest {
  using Params = model::SamplingParams;
  struct Request {
    std::vector<float> logits;
    Params params;
    std::vector<int32_t> recent;
    int64_t position = 0;
  };

  static std::vector<int32_t> on_device(const std::vector<Request>& requests) {
    const int32_t n = static_cast<int32_t>(requests.size());
    const int32_t vocabulary = static_cast<int32_t>(requests[0].logits.size());
    std::vector<float> logits;
    std::vector<SampleRow> rows;
    std::vector<std::unique_ptr<Device<int32_t>>> recent;
    for (const Request& r : requests) {
      logits.insert(logits.end(), r.logits.begin(), r.logits.end());
      recent.push_back(std::make_unique<Device<int32_t>>(r.recent));
      const size_t window = std::min(r.recent.size(), static_cast<size_t>(r.params.penalty_window));
      rows.push_back({r.params.temperature, r.params.top_k, r.params.top_p, r.params.min_p,
                      r.params.repetition_penalty,
                      model::uniform(r.params.seed, static_cast<uint64_t>(r.position)),
                      *recent.back() + (r.recent.size() - window), static_cast<int32_t>(window)});
    }
    Device<float> dlogits(logits), scratch(sample_scratch(n, vocabulary));
    Device<SampleRow> drows(rows);
    Device<int32_t> token(n);
    sample(dlogits, n, vocabulary, drows, token, scratch, nullptr);
    return token.host();
  }
  static int32_t on_cpu(Request r) {
    return model::sample(r.logits, r.recent, r.position, r.params);
  }
  void expect_cpu(const std::vector<Request>& requests, const char* what) {
    const auto got = on_device(requests);
    for (size_t i = 0; i < requests.size(); ++i)
      EXPECT_EQ(got[i], on_cpu(requests[i])) << what << ", row " << i;
  }
};

TEST_F(SampleTest, ChoosesAsTheCpuDoes) {
  const std::vector<Params> settings = {
      {.temperature = 0},
      {.temperature = 1},
      {.temperature = 0.7f, .top_k = 40},
      {.temperature = 0.8f, .top_p = 0.95f},
      {.temperature = 1.3f, .min_p = 0.05f},
      {.temperature = 1, .top_k = 100, .top_p = 0.5f, .min_p = 0.01f},
      {.temperature = 0.9f, .top_k = 1},
      {.temperature = 0.9f, .top_p = 0},
      {.temperature = 0.9f, .min_p = 2},
      {.temperature = 2, .top_k = 50, .repetition_penalty = 1.3f},
      {.temperature = 0, .repetition_penalty = 5, .penalty_window = 20},
      {.temperature = 1e-30f},
      {.temperature = 1e30f, .top_p = 0.3f},
      {.temperature = INFINITY, .top_k = 5000},
      {.temperature = NAN}};
  for (const int64_t vocabulary : {1, 31, 1000, 49152, 128256}) {
    std::vector<Request> requests;
    for (size_t s = 0; s < settings.size(); ++s) {
      for (int i = 0; i < (vocabulary > 2000 ? 3 : 20); ++i) {
        Request r;
        r.logits = normals(random, vocabulary, 4);
        r.params = settings[s];
        r.params.seed = random();
        r.position = between(random, 0, 1 << 20);
        for (int j = 0; j < 300; ++j)
          r.recent.push_back(static_cast<int32_t>(between(random, -2, vocabulary + 2)));
        requests.push_back(std::move(r));
      }
    }
    expect_cpu(requests, "normal logits");
    const auto batch = on_device(requests);
    for (const size_t i : {size_t{0}, requests.size() / 2, requests.size() - 1})
      EXPECT_EQ(on_device({requests[i]})[0], batch[i]);
  }
}

TEST_F(SampleTest, TiesAndSpecialValues) {
  std::vector<Request> requests;
  const int64_t vocabulary = 5000;
  const auto add = [&](std::vector<float> logits, Params params) {
    for (int i = 0; i < 8; ++i) {
      params.seed = random();
      requests.push_back({logits, params, {}, i});
    }
  };
  std::vector<float> steps(vocabulary), equal(vocabulary, 1.5f), nan(vocabulary, NAN),
      infinite = normals(random, vocabulary), some_nan = normals(random, vocabulary),
      nothing(vocabulary, -INFINITY);
  for (int64_t i = 0; i < vocabulary; ++i) {
    steps[i] = static_cast<float>(between(random, 0, 6));
    if (i % 3 == 0) some_nan[i] = NAN;
    if (i % 3 == 1) some_nan[i] = -INFINITY;
    if (i % 500 == 250) infinite[i] = INFINITY;
  }
  for (const auto& logits : {steps, equal, nan, infinite, some_nan, nothing}) {
    add(logits, {.temperature = 0});
    add(logits, {.temperature = 1});
    add(logits, {.temperature = 1, .top_k = 700});
    add(logits, {.temperature = 1, .top_p = 0.37f});
    add(logits, {.temperature = 1, .top_k = 3000, .top_p = 0.37f});
    add(logits, {.temperature = 1, .top_k = 100, .min_p = 0.2f});
    add(logits, {.temperature = 0.5f, .top_p = 0.99f, .min_p = 0.01f});
  }
  expect_cpu(requests, "special logits");
}

}  // namespace
}  // namespace ringtide::kernels::cuda

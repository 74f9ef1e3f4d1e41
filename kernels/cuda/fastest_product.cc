#include "kernels/cuda/fastest_product.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>

#include "kernels/cuda/check.h"
#include "kernels/cuda/weights.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kRuns = 5;

struct Release {
  void operator()(void* p) const { cudaFree(p); }
  void operator()(cudaEvent_t e) const { cudaEventDestroy(e); }
};
using Memory = std::unique_ptr<void, Release>;
// Null where there is no room.
Memory allocate(int64_t bytes) {
  void* p = nullptr;
  if (cudaMalloc(&p, static_cast<size_t>(bytes)) != cudaSuccess) cudaGetLastError();
  return Memory(p);
}
using Event = std::unique_ptr<CUevent_st, Release>;
Event make_event() {
  cudaEvent_t e = nullptr;
  check(cudaEventCreate(&e), "cudaEventCreate");
  return Event(e);
}

// Milliseconds, the least of some runs after one.
template <class Work>
float time(cudaStream_t stream, const Work& work) {
  const Event from = make_event(), to = make_event();
  float least = std::numeric_limits<float>::infinity();
  for (int i = 0; i <= kRuns; ++i) {
    check(cudaEventRecord(from.get(), stream), "cudaEventRecord");
    work();
    check(cudaEventRecord(to.get(), stream), "cudaEventRecord");
    check(cudaEventSynchronize(to.get()), "a product");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, from.get(), to.get()), "cudaEventElapsedTime");
    if (i > 0) least = std::min(least, ms);
  }
  return least;
}

}  // namespace

const LtProducts::Algorithm* FastestProduct::of(const Product& p, Usual usual, void* self,
                                                cudaStream_t stream) {
  const int64_t rows = std::max<int64_t>(kLeastMeasured, std::bit_ceil(static_cast<uint64_t>(p.m)));
  const Kind kind{p.n, p.k, p.y == nullptr, p.write == Write::Add, rows};
  auto known = known_.find(kind);
  if (known == known_.end()) {
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(stream, &capture), "cudaStreamIsCapturing");
    if (capture != cudaStreamCaptureStatusNone) return nullptr;
    known = known_.emplace(kind, measure(p, rows, usual, self, stream)).first;
  }
  return known->second ? &*known->second : nullptr;
}

// On random rows: their results are compared whole, added to other random values where the product
// adds.
std::optional<LtProducts::Algorithm> FastestProduct::measure(Product p, int64_t rows, Usual usual,
                                                             void* self, cudaStream_t stream) {
  const int64_t values = rows * p.n, bytes = values * (p.y ? 2 : 4);
  const Memory x = allocate(rows * p.k * 2), before = allocate(bytes), out = allocate(bytes);
  if (!x || !before || !out) return {};
  fill_normal(static_cast<bf16*>(x.get()), rows * p.k, 1, 1, stream);
  // As float32 these are numbers of any size, and none is infinite: the exponent's bits are a
  // bf16's.
  fill_normal(static_cast<bf16*>(before.get()), bytes / 2, 1, 2, stream);
  p.x = static_cast<const bf16*>(x.get());
  p.m = static_cast<int32_t>(rows);
  if (p.y) {
    p.y = static_cast<bf16*>(out.get());
  } else {
    p.y32 = static_cast<float*>(out.get());
  }

  const auto result = [&](const auto& work) {
    std::vector<std::byte> host(static_cast<size_t>(bytes));
    check(cudaMemcpyAsync(out.get(), before.get(), host.size(), cudaMemcpyDefault, stream), "copy");
    work();
    check(cudaMemcpyAsync(host.data(), out.get(), host.size(), cudaMemcpyDefault, stream), "copy");
    check(cudaStreamSynchronize(stream), "a product");
    return host;
  };
  const auto by_usual = [&] { usual(self, p, stream); };
  const std::vector<std::byte> wanted = result(by_usual);
  float least = time(stream, by_usual);
  std::optional<LtProducts::Algorithm> best;
  for (const LtProducts::Algorithm& candidate : products_.candidates(p, rows)) {
    const auto by_candidate = [&] { products_.run(p, candidate, stream); };
    if (result(by_candidate) != wanted) continue;
    const float ms = time(stream, by_candidate);
    if (ms >= least) continue;
    least = ms;
    best = candidate;
  }
  return best;
}

}  // namespace ringtide::kernels::cuda

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/prefill_attention_paths.h"

namespace ringtide::kernels::cuda {
namespace {

using Random = std::mt19937_64;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int64_t kForever = std::numeric_limits<int64_t>::max();

int64_t uniform(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

std::vector<bf16> normals(Random& random, int64_t n, float scale) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<bf16> x(n);
  for (bf16& v : x) v = __float2bfloat16(normal(random));
  return x;
}

// 1024-byte aligned, as an arena is.
template <class T>
class DeviceVector {
 public:
  explicit DeviceVector(size_t n) : size_(n) {
    check(cudaMalloc(&memory_, n * sizeof(T) + kAlignment), "cudaMalloc");
    const auto at = reinterpret_cast<uintptr_t>(memory_);
    data_ = reinterpret_cast<T*>((at + kAlignment - 1) / kAlignment * kAlignment);
  }
  explicit DeviceVector(const std::vector<T>& host) : DeviceVector(host.size()) {
    check(cudaMemcpy(data_, host.data(), size_ * sizeof(T), cudaMemcpyDefault), "copy");
  }
  ~DeviceVector() { cudaFree(memory_); }
  DeviceVector(const DeviceVector&) = delete;
  DeviceVector& operator=(const DeviceVector&) = delete;
  T* data() { return data_; }
  void fill(int byte) { check(cudaMemset(data_, byte, size_ * sizeof(T)), "cudaMemset"); }
  std::vector<T> host() const {
    std::vector<T> x(size_);
    check(cudaMemcpy(x.data(), data_, size_ * sizeof(T), cudaMemcpyDefault), "copy");
    return x;
  }

 private:
  static constexpr size_t kAlignment = 1024;
  void* memory_ = nullptr;
  T* data_ = nullptr;
  size_t size_;
};

enum class Path { Chosen, Mma };

struct Spec {
  Heads shape;
  int unit = 128;
  int32_t m = 0;
  int64_t position = 0;
  // Tokens [begin, end) take part; end - begin of 0 is an entry without tokens.
  std::vector<KvRef> near, far, units;
  Band near_band, far_band;
  float scale = 0;
};

// A block of keys and values of `unit` tokens from `position`, of which [begin, end) take part.
KvRef block(int64_t position, int32_t begin, int32_t end) {
  KvRef ref;
  ref.begin = begin;
  ref.end = end;
  ref.position = position;
  return ref;
}

// Pages from token 0 up to, not including, `end`.
std::vector<KvRef> pages(int64_t unit, int64_t from, int64_t end) {
  std::vector<KvRef> refs;
  for (int64_t at = from / unit * unit; at < end; at += unit)
    refs.push_back(block(at, std::max<int64_t>(from - at, 0), std::min(unit, end - at)));
  return refs;
}

struct Result {
  std::vector<bf16> o;
  std::vector<float> lse;
};

// Lists over an arena whose planes lie anywhere; rows that take no part are NaN.
class Problem {
 public:
  Problem(Random& random, Spec spec)
      : spec_(std::move(spec)),
        row_offset_(uniform(random, 0, 3) * 8 * spec_.shape.kv_heads * spec_.unit),
        stride_(int64_t{spec_.shape.heads} * spec_.shape.head_dim + 8 * uniform(random, 0, 3)),
        q_near_(normals(random, std::max(spec_.m, 1) * stride_, 1)),
        q_far_(normals(random, std::max(spec_.m, 1) * stride_, 1)),
        device_q_near_(q_near_),
        device_q_far_(q_far_) {
    const int64_t plane = int64_t{spec_.shape.kv_heads} * spec_.unit;
    const int64_t planes = 2 * (spec_.near.size() + spec_.far.size() + spec_.units.size()) + 3;
    std::vector<int64_t> places(planes);
    std::iota(places.begin(), places.end(), 0);
    std::shuffle(places.begin(), places.end(), random);
    arena_.assign((planes * plane + row_offset_) * spec_.shape.head_dim, __float2bfloat16(NAN));
    for (auto* list : {&spec_.near, &spec_.far, &spec_.units}) {
      for (KvRef& ref : *list) {
        ref.k_row = places.back() * plane, places.pop_back();
        ref.v_row = places.back() * plane, places.pop_back();
        for (int g = 0; g < spec_.shape.kv_heads; ++g) {
          for (int j = ref.begin; j < ref.end; ++j) {
            put(key(ref, g, j), normals(random, spec_.shape.head_dim, 1));
            put(value(ref, g, j), normals(random, spec_.shape.head_dim, 1));
          }
        }
      }
    }
    device_arena_ = std::make_unique<DeviceVector<bf16>>(arena_);
    for (auto* list : {&spec_.near, &spec_.far, &spec_.units}) {
      // An entry beyond the count, which nobody may read.
      std::vector<KvRef> refs = *list;
      refs.push_back(block(0, 0, spec_.unit));
      refs.back().k_row = refs.back().v_row = places[0] * plane;
      refs_.push_back(std::make_unique<DeviceVector<KvRef>>(refs));
      counts_.push_back(std::make_unique<DeviceVector<int32_t>>(
          std::vector<int32_t>{static_cast<int32_t>(list->size())}));
    }
  }

  // Of queries [from, from + m).
  Result run(Path path, int32_t from, int32_t m) {
    const Heads& shape = spec_.shape;
    const int64_t row = int64_t{shape.heads} * shape.head_dim;
    constexpr int64_t kGuard = 64;
    DeviceVector<bf16> o(m * row + kGuard);
    DeviceVector<float> lse(int64_t{m} * shape.heads + kGuard);
    o.fill(0xff);
    lse.fill(0xff);
    PrefillAttention a;
    a.shape = shape;
    a.unit = spec_.unit;
    a.arena = {device_arena_->data(), static_cast<int64_t>(arena_.size()) / shape.head_dim};
    a.q_near = device_q_near_.data() + from * stride_;
    a.q_far = device_q_far_.data() + from * stride_;
    a.q_stride = stride_;
    a.position = spec_.position + from;
    a.m = m;
    KvList* lists[] = {&a.lists.near, &a.lists.far, &a.lists.units};
    const std::vector<KvRef>* specs[] = {&spec_.near, &spec_.far, &spec_.units};
    for (int i = 0; i < 3; ++i) {
      if (specs[i]->empty() && spec_.m % 2) continue;  // a list that is not there
      *lists[i] = {refs_[i]->data(), counts_[i]->data(), static_cast<int32_t>(specs[i]->size()) + 1,
                   row_offset_};
    }
    a.near_band = spec_.near_band;
    a.far_band = spec_.far_band;
    a.scale = spec_.scale;
    a.o = o.data();
    a.lse = lse.data();
    if (path == Path::Mma)
      prefill_attention_mma(a, nullptr);
    else
      prefill_attention(a, nullptr);
    check(cudaDeviceSynchronize(), "prefill_attention");
    Result result{o.host(), lse.host()};
    for (int64_t i = 0; i < kGuard; ++i) {
      uint16_t bits;
      std::memcpy(&bits, &result.o[m * row + i], 2);
      EXPECT_EQ(bits, 0xffff) << "written beyond o";
      EXPECT_TRUE(std::isnan(result.lse[int64_t{m} * shape.heads + i])) << "written beyond lse";
    }
    result.o.resize(m * row);
    result.lse.resize(int64_t{m} * shape.heads);
    return result;
  }
  Result run(Path path) { return run(path, 0, spec_.m); }

  // Against attention in float64 of one query and head.
  void expect_right(const Result& result, int32_t query, int head) const {
    const Heads& shape = spec_.shape;
    std::vector<double> logits;
    std::vector<const bf16*> values;
    const auto see = [&](const std::vector<KvRef>& refs, const std::vector<bf16>& q, Band band) {
      const bf16* x = &q[query * stride_ + head * shape.head_dim];
      for (const KvRef& ref : refs) {
        for (int j = ref.begin; j < ref.end; ++j) {
          const int64_t distance = spec_.position + query - (ref.position + j);
          if (distance < band.nearest || distance > band.farthest) continue;
          const bf16* k = &arena_[key(ref, head / shape.group(), j)];
          double sum = 0;
          for (int d = 0; d < shape.head_dim; ++d)
            sum += double{__bfloat162float(x[d])} * __bfloat162float(k[d]);
          logits.push_back(sum * spec_.scale);
          values.push_back(&arena_[value(ref, head / shape.group(), j)]);
        }
      }
    };
    see(spec_.near, q_near_, spec_.near_band);
    see(spec_.far, q_far_, spec_.far_band);
    see(spec_.units, q_far_, spec_.far_band);

    const float lse = result.lse[int64_t{query} * shape.heads + head];
    const bf16* o = &result.o[(int64_t{query} * shape.heads + head) * shape.head_dim];
    if (logits.empty()) {
      EXPECT_EQ(lse, -kInf) << "query " << query << " head " << head;
      for (int d = 0; d < shape.head_dim; ++d) EXPECT_EQ(__bfloat162float(o[d]), 0);
      return;
    }
    const double most = *std::max_element(logits.begin(), logits.end());
    double total = 0;
    for (double logit : logits) total += std::exp(logit - most);
    EXPECT_NEAR(lse, most + std::log(total), 5e-5) << "query " << query << " head " << head;
    for (int d = 0; d < shape.head_dim; ++d) {
      double sum = 0, size = 0;
      for (size_t i = 0; i < logits.size(); ++i) {
        const double term = std::exp(logits[i] - most) / total * __bfloat162float(values[i][d]);
        sum += term;
        size += std::abs(term);
      }
      // Weights and the result are rounded to bf16: 2^-8 of each.
      ASSERT_NEAR(__bfloat162float(o[d]), sum, size * 0x1p-7 + 1e-6)
          << "query " << query << " head " << head << " value " << d;
    }
  }
  // All heads of up to `count` queries, the first and the last among them.
  void expect_right(Random& random, const Result& result, int count = 12) const {
    for (int i = 0; i < std::min(count, spec_.m); ++i) {
      const int32_t query = i == 0 ? 0 : i == 1 ? spec_.m - 1 : uniform(random, 0, spec_.m - 1);
      for (int h = 0; h < spec_.shape.heads; ++h) {
        expect_right(result, query, h);
        if (testing::Test::HasFailure()) return;
      }
    }
  }

  const Spec& spec() const { return spec_; }

 private:
  int64_t key(const KvRef& ref, int g, int j) const { return place(ref.k_row, g, j); }
  int64_t value(const KvRef& ref, int g, int j) const { return place(ref.v_row, g, j); }
  int64_t place(int64_t row, int g, int j) const {
    return (row + row_offset_ + int64_t{g} * spec_.unit + j) * spec_.shape.head_dim;
  }
  void put(int64_t at, const std::vector<bf16>& x) {
    std::copy(x.begin(), x.end(), arena_.begin() + at);
  }

  Spec spec_;
  int32_t row_offset_;
  int64_t stride_;
  std::vector<bf16> q_near_, q_far_, arena_;
  DeviceVector<bf16> device_q_near_, device_q_far_;
  std::unique_ptr<DeviceVector<bf16>> device_arena_;
  std::vector<std::unique_ptr<DeviceVector<KvRef>>> refs_;
  std::vector<std::unique_ptr<DeviceVector<int32_t>>> counts_;
};

bool same_bits(const Result& whole, const Result& part, const Heads& shape, int32_t from) {
  const int64_t row = int64_t{shape.heads} * shape.head_dim;
  return std::memcmp(&whole.o[from * row], part.o.data(), part.o.size() * sizeof(bf16)) == 0 &&
         std::memcmp(&whole.lse[int64_t{from} * shape.heads], part.lse.data(),
                     part.lse.size() * sizeof(float)) == 0;
}

// Queries of a long session as the engine asks: the window near, sinks and what overflows the
// window far, and chosen units.
Spec session(Random& random, Heads shape, int unit, int32_t m, int64_t position, int64_t window,
             int units) {
  Spec spec;
  spec.shape = shape;
  spec.unit = unit;
  spec.m = m;
  spec.position = position;
  spec.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  spec.near_band = {0, window - 1};
  spec.far_band = {window, kForever};
  const int64_t oldest = std::max<int64_t>(position - window - uniform(random, 0, 2 * unit), 0);
  spec.near = pages(unit, oldest, position + m);
  if (oldest > 0) {
    spec.far = pages(unit, oldest, std::max(oldest, position + m - window));
    spec.far.insert(spec.far.begin(), block(0, 0, std::min<int64_t>(unit, 4)));
    for (int i = 0; i < units; ++i) {
      const int64_t most = oldest / unit - 1;
      if (most >= 1) spec.units.push_back(block(uniform(random, 1, most) * unit, 0, unit));
    }
  }
  return spec;
}

struct PathCase {
  Heads shape;
  int unit;
  Path path;
};

std::string name_of(const testing::TestParamInfo<PathCase>& info) {
  const PathCase& c = info.param;
  return std::to_string(c.shape.heads) + "_" + std::to_string(c.shape.kv_heads) + "_d" +
         std::to_string(c.shape.head_dim) + "_unit" + std::to_string(c.unit) +
         (c.path == Path::Mma ? "_mma" : "");
}

class CudaPrefillAttention : public testing::TestWithParam<PathCase> {
 protected:
  void SetUp() override {
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess || devices == 0)
      GTEST_SKIP() << "no device: " << cudaGetErrorString(status);
  }
  Spec session_of(int32_t m, int64_t position, int64_t window, int units) {
    const PathCase& c = GetParam();
    return session(random_, c.shape, c.unit, m, position, window, units);
  }
  Result check_problem(Problem& problem) {
    const Result result = problem.run(GetParam().path);
    problem.expect_right(random_, result);
    return result;
  }
  Random random_{20261124};
};

TEST_P(CudaPrefillAttention, Causal) {
  for (int32_t m : {1, 2, 63, 64, 65, 127, 129, 300}) {
    SCOPED_TRACE(m);
    Problem problem(random_, session_of(m, 0, int64_t{1} << 40, 0));
    check_problem(problem);
    if (HasFailure()) return;
  }
}

TEST_P(CudaPrefillAttention, NearFarAndUnitsOfALongSession) {
  for (int i = 0; i < 6; ++i) {
    SCOPED_TRACE(i);
    const int32_t m = uniform(random_, 1, 400);
    const int64_t window = uniform(random_, 1, 5) * 100;
    const int64_t position = uniform(random_, 0, 3000);
    Problem problem(random_, session_of(m, position, window, uniform(random_, 0, 7)));
    check_problem(problem);
    if (HasFailure()) return;
  }
}

TEST_P(CudaPrefillAttention, PositionsBeyond31Bits) {
  Problem problem(random_, session_of(150, (int64_t{1} << 40) + 77, 300, 3));
  check_problem(problem);
}

TEST_P(CudaPrefillAttention, RaggedAndEmptyEntries) {
  const int unit = GetParam().unit;
  for (int i = 0; i < 6; ++i) {
    SCOPED_TRACE(i);
    Spec spec = session_of(uniform(random_, 1, 200), 2000, 500, 4);
    for (auto* list : {&spec.near, &spec.far, &spec.units}) {
      for (KvRef& ref : *list) {
        const int64_t kind = uniform(random_, 0, 3);
        if (kind == 0) ref.begin = ref.end = uniform(random_, 0, unit);
        if (kind == 1) ref.begin = uniform(random_, 0, ref.end);
        if (kind == 2) ref.end = uniform(random_, ref.begin, ref.end);
      }
    }
    Problem problem(random_, spec);
    check_problem(problem);
    if (HasFailure()) return;
  }
}

TEST_P(CudaPrefillAttention, AQueryThatSeesNothing) {
  // Some see nothing: the band begins 64 tokens back, and the first queries have no such past.
  Spec some = session_of(200, 0, int64_t{1} << 40, 0);
  some.near_band = {64, kForever};
  Problem partly(random_, some);
  const Result result = check_problem(partly);
  EXPECT_EQ(result.lse[0], -kInf);

  Spec none = session_of(131, 500, 200, 2);
  none.near_band = none.far_band = {1 << 20, kForever};
  Problem blind(random_, none);
  check_problem(blind);

  for (int32_t m : {130, 131}) {  // lists without entries, and null lists
    Spec empty = session_of(m, 500, 200, 2);
    empty.near.clear(), empty.far.clear(), empty.units.clear();
    Problem nothing(random_, empty);
    check_problem(nothing);
  }
}

TEST_P(CudaPrefillAttention, OnlyFar) {
  Spec spec = session_of(140, 3000, 300, 5);
  spec.near.clear();
  Problem problem(random_, spec);
  check_problem(problem);
}

TEST_P(CudaPrefillAttention, AnyOrderOfTheList) {
  Spec spec = session_of(260, 1500, 700, 6);
  for (auto* list : {&spec.near, &spec.far, &spec.units})
    std::shuffle(list->begin(), list->end(), random_);
  Problem problem(random_, spec);
  check_problem(problem);
}

TEST_P(CudaPrefillAttention, LargeLogits) {
  Spec spec = session_of(100, 900, 400, 3);
  spec.scale *= 8;
  Problem problem(random_, spec);
  const Result result = problem.run(GetParam().path);
  for (float lse : result.lse) EXPECT_TRUE(std::isfinite(lse));
  // A weight's error is that of its logit, so only the sum is compared.
  for (bf16 o : result.o) ASSERT_LT(std::abs(__bfloat162float(o)), 6);
}

TEST_P(CudaPrefillAttention, AQueryDoesNotDependOnTheOthers) {
  const Heads shape = GetParam().shape;
  Spec spec = session_of(700, 1900, 512, 6);
  std::shuffle(spec.near.begin(), spec.near.end(), random_);
  spec.near[2].begin = std::min(3, spec.near[2].end);
  Problem problem(random_, spec);
  const Result whole = problem.run(GetParam().path);
  EXPECT_TRUE(same_bits(whole, problem.run(GetParam().path), shape, 0));
  for (int32_t cut : {1, 7, 64, 65, 128, 512}) {
    for (const auto& [from, m] : {std::pair{0, cut}, std::pair{cut, spec.m - cut}}) {
      EXPECT_TRUE(same_bits(whole, problem.run(GetParam().path, from, m), shape, from))
          << "queries [" << from << ", " << from + m << ")";
    }
  }
  for (int32_t from = 0; from < 60; ++from)
    EXPECT_TRUE(same_bits(whole, problem.run(GetParam().path, from, 1), shape, from)) << from;
}

TEST_P(CudaPrefillAttention, ManyTilesForEveryBlock) {
  Problem problem(random_, session_of(1500, 100, 600, 0));
  check_problem(problem);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, CudaPrefillAttention,
    testing::Values(
        PathCase{{9, 3, 64}, 128, Path::Chosen}, PathCase{{32, 8, 128}, 128, Path::Chosen},
        PathCase{{4, 1, 256}, 128, Path::Chosen}, PathCase{{8, 8, 128}, 128, Path::Chosen},
        PathCase{{8, 8, 64}, 128, Path::Chosen}, PathCase{{8, 2, 64}, 128, Path::Chosen},
        PathCase{{9, 3, 64}, 128, Path::Mma}, PathCase{{32, 8, 128}, 128, Path::Mma},
        PathCase{{9, 3, 64}, 8, Path::Chosen}, PathCase{{4, 2, 128}, 16, Path::Chosen},
        PathCase{{4, 1, 256}, 32, Path::Chosen}, PathCase{{4, 2, 64}, 32, Path::Chosen},
        PathCase{{4, 2, 128}, 200, Path::Chosen}),
    name_of);

TEST(CudaPrefillArguments, AreChecked) {
  PrefillAttention a;
  a.shape = {9, 3, 80};
  EXPECT_THROW(prefill_attention(a, nullptr), std::invalid_argument);
  a.shape = {9, 2, 64};
  EXPECT_THROW(prefill_attention(a, nullptr), std::invalid_argument);
  a.shape = {9, 3, 64};
  a.unit = 12;
  EXPECT_THROW(prefill_attention(a, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace ringtide::kernels::cuda

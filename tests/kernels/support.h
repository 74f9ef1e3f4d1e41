// What the kernel tests share: random data, guarded memory, every instruction set, slow attention.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/instruction_set.h"

namespace ringtide::kernels {

// Runs a test once with every instruction set that this machine has.
class EachTarget : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override;
  void TearDown() override;
};
std::string target_name(const testing::TestParamInfo<std::string>& info);

#define RINGTIDE_EACH_TARGET(Suite) \
  INSTANTIATE_TEST_SUITE_P(Targets, Suite, testing::ValuesIn(instruction_sets()), target_name)

using Random = std::mt19937_64;
std::vector<float> normals(Random& random, int64_t n, float scale = 1);
int64_t uniform(Random& random, int64_t low, int64_t high);  // both included

// n values of T, filled with a pattern, between guards that must stay as they are.
template <class T>
class Guarded {
 public:
  explicit Guarded(int64_t n) : memory_(n * sizeof(T) + 2 * kGuard, kPattern) {}
  T* data() { return reinterpret_cast<T*>(memory_.data() + kGuard); }
  T& operator[](int64_t i) { return data()[i]; }
  bool intact() const {
    for (size_t i = 0; i < kGuard; ++i) {
      if (memory_[i] != kPattern || memory_[memory_.size() - 1 - i] != kPattern) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr unsigned char kPattern = 0xff;  // NaN, read as a float or a half
  std::vector<unsigned char> memory_;
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// A block with memory of its own; tokens outside [begin, end) are NaN.
struct TestBlock {
  std::vector<unsigned char> k, v;
  std::vector<float> keys, values;  // what was stored, in float32
  std::vector<float> cos, sin;      // of token 0, then of the ways from there
  KvBlock block;
};
struct BlockSpec {
  KvType type = KvType::F32;
  int32_t capacity = 0, begin = 0, end = 0;
  int64_t position = 0;
  bool rotated = false;
};
TestBlock make_block(Random& random, const HeadShape& shape, const BlockSpec& spec);

// logit = scale * q.k of one query head with token `token`, in float64.
double slow_logit(const HeadShape& shape, const float* q, const TestBlock& block, int kv_head,
                  int token, float scale);
bool sees(const TestBlock& block, int token, int64_t position, Band band);

// Attention in float64.
struct SlowResult {
  std::vector<double> o, lse;
};
SlowResult slow_attend(const HeadShape& shape, const std::vector<float>& q, int64_t position,
                       int64_t m, std::span<const TestBlock> blocks, Band band, float scale);

std::vector<KvBlock> blocks_of(std::span<const TestBlock> blocks);

}  // namespace ringtide::kernels

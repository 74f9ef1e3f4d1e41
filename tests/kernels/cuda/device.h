// What the tests of CUDA kernels share: device memory between guards, random bf16 values, and
// errors against a float64 reference.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/kv.h"

namespace ringtide::kernels::cuda {

// Skips where there is no device.
class DeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess || devices == 0)
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(status);
  }
  std::mt19937_64 random{20261124};
};

// n values of T in device memory, every byte 0xff (NaN), between guards that must stay as they are.
template <class T>
class Device {
 public:
  explicit Device(int64_t n) : n_(n) {
    check(cudaMalloc(&memory_, bytes() + 2 * kGuard), "cudaMalloc");
    check(cudaMemset(memory_, 0xff, bytes() + 2 * kGuard), "cudaMemset");
  }
  explicit Device(const std::vector<T>& values) : Device(static_cast<int64_t>(values.size())) {
    set(values);
  }
  Device(const Device&) = delete;
  ~Device() {
    std::vector<unsigned char> guards(2 * kGuard);
    cudaMemcpy(guards.data(), memory_, kGuard, cudaMemcpyDefault);
    cudaMemcpy(guards.data() + kGuard, memory_ + kGuard + bytes(), kGuard, cudaMemcpyDefault);
    for (const unsigned char c : guards) {
      if (c == 0xff) continue;
      ADD_FAILURE() << "written outside of an array of " << n_;
      break;
    }
    cudaFree(memory_);
  }
  T* data() const { return reinterpret_cast<T*>(memory_ + kGuard); }
  operator T*() const { return data(); }
  void set(const std::vector<T>& values) {
    check(cudaMemcpy(data(), values.data(), values.size() * sizeof(T), cudaMemcpyDefault), "set");
  }
  void zero() { check(cudaMemset(data(), 0, bytes()), "zero"); }
  std::vector<T> host() const {
    std::vector<T> values(n_);
    check(cudaDeviceSynchronize(), "a kernel");
    check(cudaMemcpy(values.data(), data(), bytes(), cudaMemcpyDefault), "host");
    return values;
  }

 private:
  static constexpr int64_t kGuard = 1024;
  int64_t bytes() const { return n_ * static_cast<int64_t>(sizeof(T)); }
  int64_t n_;
  unsigned char* memory_ = nullptr;
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
template <class T>
std::vector<T> part(const std::vector<T>& v, int64_t begin, int64_t n) {
  return {v.begin() + begin, v.begin() + begin + n};
}

inline double value(bf16 x) { return __bfloat162float(x); }
inline double value(float x) { return x; }
inline double rounded(double x) { return value(__float2bfloat16_rn(static_cast<float>(x))); }

inline std::vector<float> normals(std::mt19937_64& random, int64_t n, float deviation = 1) {
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> v(n);
  for (float& x : v) x = normal(random);
  return v;
}
inline std::vector<bf16> normals_bf16(std::mt19937_64& random, int64_t n, float deviation = 1) {
  std::vector<bf16> v;
  v.reserve(n);
  for (const float x : normals(random, n, deviation)) v.push_back(__float2bfloat16_rn(x));
  return v;
}
inline int64_t between(std::mt19937_64& random, int64_t low, int64_t high) {  // both included
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

// |got - want| / |want|; NaN never passes a comparison.
template <class T>
double error(const std::vector<T>& got, const std::vector<double>& want) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (value(got[i]) - want[i]) * (value(got[i]) - want[i]);
    size += want[i] * want[i];
  }
  return got.size() == want.size() ? std::sqrt(difference / (size > 0 ? size : 1)) : NAN;
}
// bf16 results of float32 arithmetic differ by their rounding, 2^-9 at most.
constexpr double kRounding = 2.5e-3;

// The shapes of SmolLM2, Llama 3, Gemma 3, Qwen2.5, one without groups, and wide groups.
inline const std::vector<Heads> kShapes = {{9, 3, 64}, {32, 8, 128}, {4, 1, 256}, {14, 2, 64},
                                           {8, 8, 64}, {32, 2, 128}, {40, 1, 64}};

}  // namespace ringtide::kernels::cuda

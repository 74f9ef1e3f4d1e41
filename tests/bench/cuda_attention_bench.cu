// Speed of prefill attention beside a product of 8192^3 in cuBLASLt in the same run: TFLOP/s, the
// median of several runs, of whole causal prompts and of blocks in a long session (a window of 4096
// tokens near, units far). Counted are 4 * head_dim operations for each query head and key it sees.
//
// Usage: cuda_attention_bench [short]: without the longest prompt.
#include <cublasLt.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string_view>
#include <vector>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/check.h"

namespace ringtide::kernels::cuda {
namespace {

__global__ void fill_normal(bf16* x, int64_t n, uint64_t seed) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  uint64_t z = (i + seed * 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 29) * 0x94d049bb133111eb;
  z ^= z >> 32;
  const float u = (static_cast<uint32_t>(z) + 1.0f) * 0x1p-32f, v = (z >> 40) * 0x1p-24f;
  x[i] = __float2bfloat16(sqrtf(-2 * logf(u)) * cospif(2 * v));
}

template <class T>
struct Memory {
  explicit Memory(int64_t n) : size(n) { check(cudaMalloc(&data, n * sizeof(T)), "cudaMalloc"); }
  ~Memory() { cudaFree(data); }
  Memory(const Memory&) = delete;
  T* data = nullptr;
  int64_t size;
};

struct Normals : Memory<bf16> {
  explicit Normals(int64_t n, uint64_t seed) : Memory(n) {
    fill_normal<<<(n + 255) / 256, 256>>>(data, n, seed);
    check_launch("fill_normal");
  }
};

// The median of runs of several calls each: a call's way to the device hides behind the one before.
double median_seconds(const std::function<void()>& call, double seconds) {
  cudaEvent_t from, to;
  check(cudaEventCreate(&from), "event");
  check(cudaEventCreate(&to), "event");
  const auto run = [&](int calls) {
    check(cudaEventRecord(from), "event");
    for (int i = 0; i < calls; ++i) call();
    check(cudaEventRecord(to), "event");
    check(cudaEventSynchronize(to), "run");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, from, to), "event");
    return ms * 1e-3 / calls;
  };
  run(1);
  const double first = run(1);
  const int calls = std::clamp(static_cast<int>(5e-3 / first), 1, 50);
  std::vector<double> times(std::clamp(static_cast<int>(seconds / first / calls), 3, 100));
  for (double& t : times) t = run(calls);
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  check(cudaEventDestroy(from), "event");
  check(cudaEventDestroy(to), "event");
  return times[times.size() / 2];
}

void check_blas(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) throw DeviceError(cublasLtGetStatusString(status));
}

void bench_product() {
  constexpr int64_t n = 8192, kWorkspace = 64 << 20;
  Normals a(n * n, 1), b(n * n, 2);
  Memory<bf16> c(n * n);
  Memory<char> workspace(kWorkspace);
  cublasLtHandle_t handle;
  check_blas(cublasLtCreate(&handle));
  cublasLtMatmulDesc_t product;
  check_blas(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check_blas(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                            sizeof transposed));
  cublasLtMatrixLayout_t layout;
  check_blas(cublasLtMatrixLayoutCreate(&layout, CUDA_R_16BF, n, n, n));
  cublasLtMatmulPreference_t preference;
  check_blas(cublasLtMatmulPreferenceCreate(&preference));
  check_blas(cublasLtMatmulPreferenceSetAttribute(
      preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace, sizeof kWorkspace));
  cublasLtMatmulHeuristicResult_t found;
  int count = 0;
  check_blas(cublasLtMatmulAlgoGetHeuristic(handle, product, layout, layout, layout, layout,
                                            preference, 1, &found, &count));
  const float one = 1, zero = 0;
  const double seconds = median_seconds(
      [&] {
        check_blas(cublasLtMatmul(handle, product, &one, a.data, layout, b.data, layout, &zero,
                                  c.data, layout, c.data, layout, &found.algo, workspace.data,
                                  kWorkspace, nullptr));
      },
      0.5);
  std::printf("%-52s %9.3f ms %7.1f TFLOP/s\n", "cuBLASLt, bf16, 8192^3", seconds * 1e3,
              2.0 * n * n * n / seconds * 1e-12);
  cublasLtMatmulPreferenceDestroy(preference);
  cublasLtMatrixLayoutDestroy(layout);
  cublasLtMatmulDescDestroy(product);
  cublasLtDestroy(handle);
}

struct List {
  explicit List(const std::vector<KvRef>& entries) : refs(entries.size() + 1), count(1) {
    const int32_t n = entries.size();
    check(cudaMemcpy(refs.data, entries.data(), n * sizeof(KvRef), cudaMemcpyDefault), "copy");
    check(cudaMemcpy(count.data, &n, sizeof n, cudaMemcpyDefault), "copy");
    list = {refs.data, count.data, n, 0};
  }
  Memory<KvRef> refs;
  Memory<int32_t> count;
  KvList list;
};

// m queries from `position`; the keys of the last `window` tokens before each, and `units` others.
void bench_attention(const Heads& shape, int64_t position, int64_t m, int64_t window, int units) {
  constexpr int64_t kUnit = 128;
  const int64_t plane = shape.kv_heads * kUnit;
  const int64_t oldest = std::max<int64_t>(position - window, 0) / kUnit * kUnit;
  std::vector<KvRef> near, far;
  int32_t row = 0;
  const auto block = [&](int64_t at, int64_t end) {
    KvRef ref{row, static_cast<int32_t>(row + plane), 0, static_cast<int32_t>(end - at), at};
    row += 2 * plane;
    return ref;
  };
  for (int64_t at = oldest; at < position + m; at += kUnit)
    near.push_back(block(at, std::min(at + kUnit, position + m)));
  for (int i = 0; i < units; ++i) far.push_back(block(i * kUnit, (i + 1) * kUnit));
  const List near_list(near), far_list(far);
  const int64_t width = int64_t{shape.heads} * shape.head_dim;
  Normals arena(int64_t{row} * shape.head_dim, 3), q_near(m * width, 4), q_far(m * width, 5);
  Memory<bf16> o(m * width);
  Memory<float> lse(m * shape.heads);

  PrefillAttention a;
  a.shape = shape;
  a.unit = kUnit;
  a.arena = {arena.data, row};
  a.q_near = q_near.data;
  a.q_far = q_far.data;
  a.q_stride = width;
  a.position = position;
  a.m = m;
  a.lists = {near_list.list, {}, far_list.list};
  a.near_band = {0, window - 1};
  a.far_band = {window, std::numeric_limits<int64_t>::max()};
  a.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  a.o = o.data;
  a.lse = lse.data;
  double pairs = 0;
  for (int64_t i = 0; i < m; ++i)
    pairs += std::min(window, position + i - oldest + 1) + units * kUnit;
  const double seconds = median_seconds([&] { prefill_attention(a, nullptr); }, 0.4);
  char what[96];
  std::snprintf(what, sizeof what, "%d/%d heads of %d, %ld queries at %ld, %d units", shape.heads,
                shape.kv_heads, shape.head_dim, m, position, units);
  std::printf("%-52s %9.3f ms %7.1f TFLOP/s\n", what, seconds * 1e3,
              4.0 * shape.head_dim * shape.heads * pairs / seconds * 1e-12);
  std::fflush(stdout);
}

}  // namespace
}  // namespace ringtide::kernels::cuda

int main(int argc, char** argv) {
  using namespace ringtide::kernels::cuda;
  const bool all = argc < 2 || std::string_view(argv[1]) != "short";
  try {
    cudaDeviceProp device;
    check(cudaGetDeviceProperties(&device, 0), "no device");
    std::printf("%s\n", device.name);
    bench_product();
    constexpr int64_t kWhole = int64_t{1} << 40;
    const Heads llama{32, 8, 128};
    for (int64_t m : {8192, 32768, 131072}) {
      if (all || m < 100000) bench_attention(llama, 0, m, kWhole, 0);
    }
    for (int64_t m : {512, 2048}) {
      for (int units : {16, 96}) bench_attention(llama, 1 << 20, m, 4096, units);
    }
    bench_attention({9, 3, 64}, 0, 32768, kWhole, 0);
    bench_attention({4, 1, 256}, 0, 8192, kWhole, 0);
    bench_product();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

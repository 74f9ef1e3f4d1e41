// Products over many rows: by cuBLASLt, or on Hopper by many_rows_sm90.h.
//
// A row's result must not depend on how many rows there are. For each (n, k, output) one algorithm is
// chosen, at a typical number of rows, from those that do not split k; tiles and stages are part of
// the algorithm, so that every row goes the same way whatever m is.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <array>
#include <map>
#include <string>
#include <tuple>

#include "kernels/cuda/hopper.h"
#include "kernels/cuda/many_rows_sm90.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;
constexpr int64_t kTypicalRows = 2048;

void check_lt(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw DeviceError(std::string("cuBLASLt, ") + what + ": status " +
                      std::to_string(static_cast<int>(status)));
}

// Column-major, as the library sees it: y^T (n, m) = w (n, k) * x^T (k, m).
struct Layouts {
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  Layouts(int64_t m, int64_t n, int64_t k, cudaDataType_t out) {
    check_lt(cublasLtMatrixLayoutCreate(&w, CUDA_R_16BF, k, n, k), "layout");
    check_lt(cublasLtMatrixLayoutCreate(&x, CUDA_R_16BF, k, m, k), "layout");
    check_lt(cublasLtMatrixLayoutCreate(&y, out, n, m, n), "layout");
  }
  ~Layouts() {
    cublasLtMatrixLayoutDestroy(w);
    cublasLtMatrixLayoutDestroy(x);
    cublasLtMatrixLayoutDestroy(y);
  }
};

}  // namespace

struct ManyRows::State {
  using Kind = std::tuple<int64_t, int64_t, bool, bool>;  // n, k, float32 output, added to

  const bool hopper = is_hopper();
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t product = nullptr;
  void* workspace = nullptr;
  std::map<Kind, cublasLtMatmulAlgo_t> algorithms;

  const cublasLtMatmulAlgo_t& algorithm(int64_t n, int64_t k, cudaDataType_t out, bool adds) {
    const Kind kind{n, k, out == CUDA_R_32F, adds};
    if (const auto known = algorithms.find(kind); known != algorithms.end()) return known->second;
    cublasLtMatmulPreference_t preference = nullptr;
    check_lt(cublasLtMatmulPreferenceCreate(&preference), "preference");
    check_lt(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &kWorkspace, sizeof kWorkspace),
             "preference");
    // Each output is summed by one thread block, in one go.
    const uint32_t no_reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
    check_lt(cublasLtMatmulPreferenceSetAttribute(
                 preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_reduction,
                 sizeof no_reduction),
             "preference");
    // x and y begin at rows of any number: aligned to a row's 16 bytes, and no more.
    const uint32_t alignment = 16;
    for (const auto which : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                             CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                             CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                             CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      check_lt(cublasLtMatmulPreferenceSetAttribute(preference, which, &alignment, sizeof alignment),
               "preference");
    const Layouts at(kTypicalRows, n, k, out);
    std::array<cublasLtMatmulHeuristicResult_t, 32> found;
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, product, at.w, at.x, at.y, at.y, preference,
                                       static_cast<int>(found.size()), found.data(), &count);
    cublasLtMatmulPreferenceDestroy(preference);
    check_lt(status, "choice of an algorithm");
    for (int i = 0; i < count; ++i) {
      if (found[i].state != CUBLAS_STATUS_SUCCESS) continue;
      int32_t split = 1;
      size_t written = 0;
      check_lt(cublasLtMatmulAlgoConfigGetAttribute(&found[i].algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
                                                    &split, sizeof split, &written),
               "algorithm");
      if (split > 1) continue;
      return algorithms[kind] = found[i].algo;
    }
    throw DeviceError("cuBLASLt has no algorithm for a product of " + std::to_string(k) + " to " +
                      std::to_string(n));
  }
};

ManyRows::ManyRows() : state_(std::make_unique<State>()) {
  check_lt(cublasLtCreate(&state_->handle), "start");
  check_lt(cublasLtMatmulDescCreate(&state_->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "product");
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check_lt(cublasLtMatmulDescSetAttribute(state_->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                          sizeof transposed),
           "product");
  check(cudaMalloc(&state_->workspace, kWorkspace), "cuBLASLt's workspace");
}

ManyRows::~ManyRows() {
  cudaFree(state_->workspace);
  cublasLtMatmulDescDestroy(state_->product);
  cublasLtDestroy(state_->handle);
}

void ManyRows::run(const Product& p, cudaStream_t stream) {
  if (p.m == 0) return;
  if (state_->hopper && sm90_serves(p.n, p.k)) return many_rows_sm90(p, stream);
  const cudaDataType_t out = p.y ? CUDA_R_16BF : CUDA_R_32F;
  const bool adds = p.write == Write::Add;
  void* const y = p.y ? static_cast<void*>(p.y) : p.y32;
  const Layouts at(p.m, p.n, p.k, out);
  const float one = 1, before = adds ? 1 : 0;
  check_lt(cublasLtMatmul(state_->handle, state_->product, &one, p.w, at.w, p.x, at.x, &before, y,
                          at.y, y, at.y, &state_->algorithm(p.n, p.k, out, adds), state_->workspace,
                          kWorkspace, stream),
           "product");
}

void ManyRows::run(const GatedProduct& p, cudaStream_t stream) {
  if (p.m == 0) return;
  if (state_->hopper && sm90_serves(2 * p.n, p.k)) return gated_rows_sm90(p, stream);
  run(Product{.x = p.x, .w = p.w, .m = p.m, .n = 2 * p.n, .k = p.k, .y = p.between}, stream);
  gate_mul(p.between, p.m, p.n, p.gate, p.y, stream);
}

}  // namespace ringtide::kernels::cuda

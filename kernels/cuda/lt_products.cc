#include "kernels/cuda/lt_products.h"

#include <array>
#include <map>
#include <string>
#include <tuple>

#include "kernels/cuda/check.h"
#include "kernels/cuda/lt_algorithm.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;
constexpr int64_t kTypicalRows = 2048;

void check_lt(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw DeviceError(std::string("cuBLASLt, ") + what + ": status " +
                      std::to_string(static_cast<int>(status)));
}

cudaDataType_t output(const Product& p) { return p.y ? CUDA_R_16BF : CUDA_R_32F; }

// Column-major, as the library sees it: y^T (n, m) = w (n, k) * x^T (k, m).
struct Layouts {
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  Layouts(const Product& p, int64_t m) {
    check_lt(cublasLtMatrixLayoutCreate(&w, CUDA_R_16BF, p.k, p.n, p.k), "layout");
    check_lt(cublasLtMatrixLayoutCreate(&x, CUDA_R_16BF, p.k, m, p.k), "layout");
    check_lt(cublasLtMatrixLayoutCreate(&y, output(p), p.n, m, p.n), "layout");
  }
  ~Layouts() {
    cublasLtMatrixLayoutDestroy(w);
    cublasLtMatrixLayoutDestroy(x);
    cublasLtMatrixLayoutDestroy(y);
  }
};

// Without parts of k: each output is summed by one thread block, in one go.
cublasLtMatmulPreference_t make_preference() {
  cublasLtMatmulPreference_t preference = nullptr;
  check_lt(cublasLtMatmulPreferenceCreate(&preference), "preference");
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t which, const auto& value) {
    check_lt(cublasLtMatmulPreferenceSetAttribute(preference, which, &value, sizeof value),
             "preference");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  // x and y begin at rows of any number: aligned to a row's 16 bytes, and no more.
  for (const auto which :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(which, uint32_t{16});
  return preference;
}

bool splits(const cublasLtMatmulAlgo_t& algorithm) {
  int32_t parts = 1;
  size_t written = 0;
  check_lt(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts,
                                                sizeof parts, &written),
           "algorithm");
  return parts > 1;
}

}  // namespace

struct LtProducts::State {
  using Kind = std::tuple<int64_t, int64_t, bool, bool>;  // n, k, float32 output, added to

  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  void* workspace = nullptr;
  std::map<Kind, Algorithm> usual;
};

LtProducts::LtProducts() : state_(std::make_unique<State>()) {
  check_lt(cublasLtCreate(&state_->handle), "start");
  check_lt(cublasLtMatmulDescCreate(&state_->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "product");
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check_lt(cublasLtMatmulDescSetAttribute(state_->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                          sizeof transposed),
           "product");
  state_->preference = make_preference();
  check(cudaMalloc(&state_->workspace, kWorkspace), "cuBLASLt's workspace");
}

LtProducts::~LtProducts() {
  cudaFree(state_->workspace);
  cublasLtMatmulPreferenceDestroy(state_->preference);
  cublasLtMatmulDescDestroy(state_->product);
  cublasLtDestroy(state_->handle);
}

const LtProducts::Algorithm& LtProducts::usual(const Product& p) {
  const State::Kind kind{p.n, p.k, p.y == nullptr, p.write == Write::Add};
  if (const auto known = state_->usual.find(kind); known != state_->usual.end())
    return known->second;
  const auto found = candidates(p, kTypicalRows);
  if (found.empty())
    throw DeviceError("cuBLASLt has no algorithm for a product of " + std::to_string(p.k) + " to " +
                      std::to_string(p.n));
  return state_->usual[kind] = found[0];
}

std::vector<LtProducts::Algorithm> LtProducts::candidates(const Product& p, int64_t rows) {
  const Layouts at(p, rows);
  std::array<cublasLtMatmulHeuristicResult_t, 32> found;
  int count = 0;
  check_lt(cublasLtMatmulAlgoGetHeuristic(state_->handle, state_->product, at.w, at.x, at.y, at.y,
                                          state_->preference, static_cast<int>(found.size()),
                                          found.data(), &count),
           "choice of an algorithm");
  std::vector<Algorithm> usable;
  for (int i = 0; i < count; ++i)
    if (found[i].state == CUBLAS_STATUS_SUCCESS && !splits(found[i].algo))
      usable.push_back({found[i].algo});
  return usable;
}

void LtProducts::run(const Product& p, const Algorithm& algorithm, cudaStream_t stream) {
  const Layouts at(p, p.m);
  const float one = 1, before = p.write == Write::Add ? 1 : 0;
  void* const y = p.y ? static_cast<void*>(p.y) : p.y32;
  check_lt(
      cublasLtMatmul(state_->handle, state_->product, &one, p.w, at.w, p.x, at.x, &before, y, at.y,
                     y, at.y, &algorithm.algorithm, state_->workspace, kWorkspace, stream),
      "product");
}

}  // namespace ringtide::kernels::cuda

#include <algorithm>

#include "kernels/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/merge.cc"
#include <hwy/foreach_target.h>
//
#include "kernels/merge_inl.h"

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

void merge_rows(float* o, float* lse, const float* o2, const float* lse2, int64_t rows,
                int head_dim) {
  for (int64_t r = 0; r < rows; ++r) {
    merge_row(o + r * head_dim, lse + r, o2 + r * head_dim, lse2[r], head_dim);
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {

HWY_EXPORT(merge_rows);

void merge(float* o, float* lse, const float* o2, const float* lse2, int64_t rows, int head_dim,
           ThreadPool& threads) {
  constexpr int64_t kRows = 64;
  threads.parallel_for((rows + kRows - 1) / kRows, [&](int64_t part, int) {
    const int64_t r = part * kRows;
    HWY_DYNAMIC_DISPATCH(merge_rows)
    (o + r * head_dim, lse + r, o2 + r * head_dim, lse2 + r, std::min(kRows, rows - r), head_dim);
  });
}

}  // namespace ringtide::kernels
#endif  // HWY_ONCE

// What operations of kernels/gpu.h compute, as plain loops over host memory: the parts of
// fake_gpu.h that know nothing of a device. Shapes, layouts and ties are those of kernels/cuda.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/gpu.h"

namespace ringtide::testing {

// Where a query's result goes: o32 in place of o where it is set.
struct FakeResult {
  kernels::cuda::bf16* o;
  float* o32;
  float* lse;
};
// What it saw before; null: nothing.
struct FakeBefore {
  const float* o = nullptr;
  const float* lse = nullptr;
};

// One softmax over all that a query sees, list by list; two passes in float64.
void fake_attend(const kernels::cuda::Heads& s, int unit, const kernels::cuda::Arena& arena,
                 const kernels::cuda::bf16* q_near, const kernels::cuda::bf16* q_far, int64_t p,
                 const kernels::cuda::Lists& lists, int near_offset, int far_offset,
                 kernels::cuda::Band near_band, kernels::cuda::Band far_band, float scale,
                 const FakeBefore& before, const FakeResult& result);

void fake_split_qkv(const kernels::cuda::Qkv& a);
void fake_learn(const kernels::cuda::Learn& a);
void fake_represent(const kernels::cuda::Represent& a);
// Of row `r`.
void fake_choose(const kernels::cuda::Lookup& a, int32_t r);
// What row `r` has to copy is added to `copies`, which fake_fetch() makes.
struct FakeCopy {
  void* to;
  const void* from;
  size_t bytes;
  uint32_t* begun;  // of a guess
};
void fake_assign(const kernels::cuda::Lookup& a, int32_t r, std::vector<FakeCopy>& copies);
// Of a guess this part of them begins before it is over.
void fake_fetch(const std::vector<FakeCopy>& copies, double begins);
// The token of one row of logits (n,), which the repetition penalty changes.
int32_t fake_sample(float* logits, int32_t n, const kernels::cuda::SampleRow& p);

}  // namespace ringtide::testing

// The two kernels behind prefill_attention().
#pragma once

#include "kernels/cuda/attention.h"

namespace ringtide::kernels::cuda {

constexpr int32_t kTmaUnit = 128;  // tokens of a plane that the Hopper kernel wants

// Any device from 8.0 on: mma.sync and cp.async.
void prefill_attention_mma(const PrefillAttention& a, cudaStream_t stream);

// Devices of 9.0, planes of kTmaUnit tokens, head_dim 64 or 128: wgmma and bulk tensor copies.
void prefill_attention_sm90(const PrefillAttention& a, cudaStream_t stream);

}  // namespace ringtide::kernels::cuda

// Choosing tokens on the device, as model/sampler.h defines it.
//
// Weights exp((logit - highest) / temperature) are float32 here, within 2^-22 of the CPU's double;
// sums of them are exact, in units of 2^-41 of the highest. So the choice is the CPU's for the same
// logits and random number, but where that number, or the edge of min-p or top-p, lies within about
// a millionth of the whole of another token. It depends on the row's logits and parameters alone.
#pragma once

#include "kernels/cuda/kv.h"

namespace ringtide::kernels::cuda {

struct SampleRow {
  float temperature = 0;  // not above 0: greedy
  int32_t top_k = 0;
  float top_p = 1, min_p = 0, repetition_penalty = 1;
  double uniform = 0;               // the random number of this token, drawn by the host: [0, 1)
  const int32_t* recent = nullptr;  // device: tokens the penalty looks at
  int32_t recent_count = 0;
};
// token[r] of logits (rows, vocabulary), which penalties overwrite. rows: device. Ties go to the
// lower id. vocabulary: at most 2^18.
void sample(float* logits, int32_t row_count, int32_t vocabulary, const SampleRow* rows,
            int32_t* token, float* scratch, cudaStream_t stream);
int64_t sample_scratch(int32_t row_count, int32_t vocabulary);  // floats

}  // namespace ringtide::kernels::cuda

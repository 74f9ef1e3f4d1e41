// What a GPU can do at best, and what the kernels make of it: measured without an engine.
#pragma once

#include "deploy/bench_figures.h"
#include "kernels/gpu.h"

namespace ringtide::deploy {

inline constexpr const char* kCopy = "copy on the GPU";
inline constexpr const char* kProduct = "matrix product 8192^3";
inline constexpr const char* kToDevice = "host to GPU";
inline constexpr const char* kToHost = "GPU to host";

// The four above.
void measure_ceilings(kernels::Gpu& gpu, Figures& figures);
std::string attention_name(int64_t tokens);
// Causal attention of a prompt to itself, one layer.
void measure_prefill_attention(kernels::Gpu& gpu, const kernels::cuda::Heads& shape, int64_t tokens,
                               Figures& figures);
// One query over the keys and values of one layer.
void measure_decode_attention(kernels::Gpu& gpu, const kernels::cuda::Heads& shape, int64_t tokens,
                              Figures& figures);
// Units of one layer from pinned host memory to their slots.
void measure_fetch(kernels::Gpu& gpu, const kernels::cuda::Heads& shape, Figures& figures);

}  // namespace ringtide::deploy

#include <stdexcept>

#include "kernels/cuda/hopper.h"
#include "kernels/cuda/prefill_attention_paths.h"

namespace ringtide::kernels::cuda {
namespace {

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(std::string("prefill_attention: ") + what);
}

bool aligned(const void* p, uintptr_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

void check_arguments(const PrefillAttention& a) {
  const Heads& s = a.shape;
  require(s.heads > 0 && s.kv_heads > 0 && s.heads % s.kv_heads == 0,
          "heads must be a multiple of kv_heads");
  require(s.head_dim == 64 || s.head_dim == 128 || s.head_dim == 256,
          "head_dim must be 64, 128 or 256");
  require(a.unit > 0 && a.unit % 8 == 0, "unit must be a multiple of 8");
  require(a.scale > 0, "scale must be above zero");
  require(a.q_near && a.q_far && (a.o || a.o32), "queries and o or o32 must be given");
  require(!a.o_before == !a.lse_before, "o_before and lse_before go together");
  require(!a.o32 || a.lse, "lse must be given with o32");
  require(a.q_stride >= int64_t{s.heads} * s.head_dim && a.q_stride % 8 == 0,
          "q_stride must be a multiple of 8 and hold all heads");
  require(aligned(a.q_near, 16) && aligned(a.q_far, 16) && aligned(a.o, 16),
          "queries and o must be 16-byte aligned");
  require(aligned(a.o_before, 16) && aligned(a.o32, 16),
          "o_before and o32 must be 16-byte aligned");
  require(aligned(a.arena.base, 1024), "the arena must be 1024-byte aligned");
}

}  // namespace

void prefill_attention(const PrefillAttention& a, cudaStream_t stream) {
  check_arguments(a);
  if (a.m == 0) return;
  if (a.unit == kTmaUnit && a.shape.head_dim <= 128 && is_hopper())
    prefill_attention_sm90(a, stream);
  else
    prefill_attention_mma(a, stream);
}

}  // namespace ringtide::kernels::cuda

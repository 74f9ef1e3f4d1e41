// Prefill attention for Hopper: a block takes 64 queries of one head per consumer warpgroup; one
// warp copies the tiles of keys and values that these queries see through a ring of slots in shared
// memory; the consumers multiply and keep the softmax.
#include "kernels/cuda/check.h"
#include "kernels/cuda/prefill_sm90_consumer_inl.cuh"
#include "kernels/cuda/prefill_sm90_producer_inl.cuh"
#include "kernels/cuda/tensor_map.h"

namespace ringtide::kernels::cuda {
namespace {

template <int kHeadDim, int kGroups, class Carried>
__global__ void __launch_bounds__(128 * (kGroups + 1), 1)
    attend(const __grid_constant__ PrefillAttention a, const __grid_constant__ PrefillMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using S = PrefillShared<kHeadDim, kGroups>;
  extern __shared__ unsigned char memory[];
  S& shared = *reinterpret_cast<S*>(memory + (-shared_address(memory) & 1023));
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kSlots; ++i) {
      init_barrier(shared.full[i], 1);
      init_barrier(shared.empty[i], 4 * kGroups);
    }
    init_barrier(shared.q_full, 1);
    init_barrier(shared.landed, 1);
    init_barrier(shared.q_empty, 4 * kGroups);
    fence_barrier_init();
  }
  __syncthreads();
  const int tiles = (a.m + S::kQueriesOfTile - 1) / S::kQueriesOfTile;
  const int warpgroup = threadIdx.x / 128;
  if (warpgroup == kGroups) {
    fewer_registers<56>();
    if (threadIdx.x % 128 >= 32) return;
    if (threadIdx.x % 32 == 0) {
      prefetch_map(maps.q_near);
      prefetch_map(maps.q_far);
      prefetch_map(maps.arena);
    }
    PrefillProducer<kHeadDim, kGroups> producer(a, maps, shared);
    const int items = tiles * a.shape.heads;
    Deal deal(a.work);
    for (int item = deal.next(); item < items; item = deal.next()) producer.produce(item);
    deal.close();
    producer.close();
  } else {
    more_registers<224>();
    PrefillConsumer<kHeadDim, kGroups, Carried>(a, shared, warpgroup).consume();
  }
#endif
}

template <int kHeadDim, int kGroups>
auto kernel_of(const PrefillAttention& a) {
  if (a.o_before)
    return a.o32 ? attend<kHeadDim, kGroups, Carry<true, true>>
                 : attend<kHeadDim, kGroups, Carry<true, false>>;
  return a.o32 ? attend<kHeadDim, kGroups, Carry<false, true>>
               : attend<kHeadDim, kGroups, Carry<false, false>>;
}

template <int kHeadDim, int kGroups>
void launch(const PrefillAttention& a, cudaStream_t stream) {
  using S = PrefillShared<kHeadDim, kGroups>;
  constexpr int kBytes = sizeof(S) + 1023;
  static_assert(kBytes <= kSharedBytes);
  const auto kernel = kernel_of<kHeadDim, kGroups>(a);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "prefill_attention");
  const auto queries = [&](const bf16* q) {
    TensorView<4> view;
    view.base = q;
    view.size = {64, static_cast<uint64_t>(a.m), kHeadDim / 64,
                 static_cast<uint64_t>(a.shape.heads)};
    view.stride = {static_cast<uint64_t>(a.q_stride) * 2, 128, kHeadDim * 2};
    view.box = {64, S::kQueriesOfTile, kHeadDim / 64, 1};
    return tensor_map(view);
  };
  TensorView<3> arena;
  arena.base = a.arena.base;
  arena.size = {64, static_cast<uint64_t>(a.arena.rows), kHeadDim / 64};
  arena.stride = {kHeadDim * 2, 128};
  arena.box = {64, kKeys, kHeadDim / 64};
  const PrefillMaps maps{queries(a.q_near), queries(a.q_far), tensor_map(arena)};

  int device = 0, processors = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "device");
  const int tiles = (a.m + S::kQueriesOfTile - 1) / S::kQueriesOfTile;
  const int blocks = std::min(processors, tiles * a.shape.heads);
  kernel<<<blocks, 128 * (kGroups + 1), kBytes, stream>>>(a, maps);
  check_launch("prefill_attention");
}

}  // namespace

void prefill_attention_sm90(const PrefillAttention& a, cudaStream_t stream) {
  switch (a.shape.head_dim) {
    case 64:
      return launch<64, 2>(a, stream);
    case 128:
      return launch<128, 2>(a, stream);
  }
}

}  // namespace ringtide::kernels::cuda

// Hopper's clusters of blocks, and the bulk copies of a product: to both blocks of a cluster at
// once, and back to global memory. Included by files whose kernels are compiled for 9.0a.
#pragma once

#include "kernels/cuda/hopper_inl.cuh"

namespace ringtide::kernels::cuda {

// ---- Clusters of blocks

__device__ inline uint32_t rank_in_cluster() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline void cluster_sync() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;\n" ::
          : "memory");
}
// At the barrier in the same place of a block of the cluster. Orders reads by wgmma that were
// waited for; a release at the scope of the cluster would wait for all memory, each time.
__device__ inline void arrive_at(Barrier& b, uint32_t rank) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}\n" ::"r"(shared_address(&b)),
      "r"(rank)
      : "memory");
}

// ---- Bulk tensor copies of two dimensions

// One box to both blocks of a cluster of two, at the same place of each, counted by the barrier at
// the same place.
__device__ inline void copy_box_to_both(void* to, const CUtensorMap& map, Barrier& b, int x,
                                        int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
      "l"(&map), "r"(x), "r"(y), "r"(shared_address(&b)), "h"(static_cast<uint16_t>(3))
      : "memory");
}
__device__ inline void copy_box(void* to, const CUtensorMap& map, Barrier& b, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3}], [%4];" ::"r"(shared_address(to)),
      "l"(&map), "r"(x), "r"(y), "r"(shared_address(&b))
      : "memory");
}
// From shared memory; what lies outside of the array is left out. Of this thread's group of stores.
__device__ inline void store_box(const CUtensorMap& map, const void* from, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
      "r"(shared_address(from)), "r"(x), "r"(y)
      : "memory");
}
__device__ inline void add_box(const CUtensorMap& map, const void* from, int x, int y) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%2, %3}], [%1];" ::
          "l"(&map),
      "r"(shared_address(from)), "r"(x), "r"(y)
      : "memory");
}
__device__ inline void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until shared memory of all but the last kLeft groups has been read.
template <int kLeft>
__device__ inline void wait_stores_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kLeft) : "memory");
}
__device__ inline void wait_stores() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

}  // namespace ringtide::kernels::cuda

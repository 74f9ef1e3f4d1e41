// The warp that walks the lists and fills the ring. Its 32 lanes look for what is seen; lane 0
// waits for free slots and copies.
#pragma once

#include "kernels/cuda/prefill_sm90_inl.cuh"
#include "kernels/cuda/sight_inl.cuh"

namespace ringtide::kernels::cuda {

template <int kHeadDim, int kGroups>
class PrefillProducer {
 public:
  using S = PrefillShared<kHeadDim, kGroups>;
  __device__ PrefillProducer(const PrefillAttention& a, const PrefillMaps& maps, S& shared)
      : a_(a), maps_(maps), s_(shared), lane_(threadIdx.x % 32) {}

  // All that a tile of queries of one head sees.
  __device__ void produce(int tile, int head) {
    head_ = head;
    from_ = tile * S::kQueriesOfTile;
    loaded_ = 0;
#pragma unroll 1
    for (int part = 0; part < 3; ++part) walk(part);
    if (lane_ == 0 && !loaded_) put_marker(kNothing);
  }
  __device__ void close() {
    if (lane_ == 0) put_marker(kOver);
  }

 private:
  __device__ Sight sight_of(const KvRef& ref, bool far) const {
    const int64_t first = a_.position + from_;
    const int64_t last = a_.position + min(from_ + S::kQueriesOfTile, a_.m) - 1;
    return sight(first, last, ref.position, ref.begin, ref.end, far ? a_.far_band : a_.near_band);
  }

  __device__ void walk(int part) {
    const KvList& list = part == 0 ? a_.lists.near : part == 1 ? a_.lists.far : a_.lists.units;
    const int count = list.refs ? min(*list.count, list.max_count) : 0;
    constexpr int kAhead = 4;  // loads in flight: most of a list may be out of sight
#pragma unroll 1
    for (int base = 0; base < count; base += 32 * kAhead) {
      uint32_t seen = 0;  // of the 32 entries from base + 32 * lane on
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int at = base + 32 * i + lane_;
        const bool any = at < count && sight_of(list.refs[at], part > 0).any;
        const uint32_t all = __ballot_sync(~0u, any);
        if (lane_ == i) seen = all;
      }
#pragma unroll 1
      for (int i = 0; i < kAhead; ++i)
        put_seen(list, base + 32 * i, __shfl_sync(~0u, seen, i), part > 0);
    }
  }

  // The tiles of 32 entries whose bits are set.
  __device__ void put_seen(const KvList& list, int base, uint32_t seen, bool far) {
    if (!seen) return;
    int k_row = 0, v_row = 0, packed = 0, low = 0, high = 0;
    if (seen >> lane_ & 1) {
      const KvRef ref = list.refs[base + lane_];
      const Sight sight = sight_of(ref, far);
      const int row = list.row_offset + head_ / a_.shape.group() * kKeys;
      k_row = ref.k_row + row;
      v_row = ref.v_row + row;
      const bool ragged = ref.begin > 0 || ref.end < kKeys;
      packed = pack_note(ref.begin, ref.end,
                         (ragged ? kRagged : 0) | (ragged || !sight.all ? kPartial : 0));
      low = sight.low;
      high = sight.high;
    }
#pragma unroll 1
    for (; seen; seen &= seen - 1) {
      const int from = __ffs(seen) - 1;
      const int k = __shfl_sync(~0u, k_row, from), v = __shfl_sync(~0u, v_row, from);
      TileNote note{__shfl_sync(~0u, packed, from), __shfl_sync(~0u, low, from),
                    __shfl_sync(~0u, high, from)};
      if (!loaded_) note.packed |= pack_note(0, 0, kFirst);
      const bool queries = !(loaded_ >> far & 1);
      if (queries) note.packed |= pack_note(0, 0, kQueries);
      loaded_ |= 1u << far;
      if (lane_ == 0) {
        claim();
        s_.note[ring_.slot] = note;
        copy_rows(k);
        if (queries) copy_queries(far);
        put_values();
        value_row_ = v;
      }
    }
  }

  __device__ void put_marker(uint32_t kind) {
    claim();
    s_.note[ring_.slot] = {pack_note(0, 0, kind)};
    arrive(s_.full[ring_.slot]);
    ring_.advance();
    put_values();
    value_row_ = -1;
  }

  // Those of the tile before, if there was one.
  __device__ void put_values() {
    if (value_row_ < 0) return;
    claim();
    copy_rows(value_row_);
  }

  __device__ void copy_queries(bool far) {
    wait(s_.q_empty, queries_ ^ 1);
    queries_ ^= 1;
    arrive_expecting(s_.q_full, S::kQueryBytes);
    copy_box(s_.q, far ? maps_.q_far : maps_.q_near, s_.q_full, 0, from_, 0, head_);
  }

  __device__ void claim() { wait(s_.empty[ring_.slot], ring_.parity ^ 1); }
  __device__ void copy_rows(int row) {
    arrive_expecting(s_.full[ring_.slot], S::kTileBytes);
    copy_box(s_.kv[ring_.slot], maps_.arena, s_.full[ring_.slot], 0, row, 0);
    ring_.advance();
  }

  const PrefillAttention& a_;
  const PrefillMaps& maps_;
  S& s_;
  int lane_, head_ = 0, from_ = 0;
  uint32_t loaded_ = 0;  // bit 0: near queries, bit 1: far queries
  int value_row_ = -1;
  Ring<S::kSlots> ring_;
  uint32_t queries_ = 0;  // parity
};

}  // namespace ringtide::kernels::cuda

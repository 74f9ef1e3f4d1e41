// The warp that walks the lists and fills the ring. Its 32 lanes look for what is seen; lane 0
// waits for free slots and copies; all keep the state.
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
  __device__ void produce(int number) {
    const Item item(a_, S::kQueriesOfTile, number);
    item_ = number;
    head_ = item.head;
    from_ = item.tile * S::kQueriesOfTile;
    first_ = position_of(a_, from_);
    loaded_ = 0;
#pragma unroll 1
    for (int part = 0; part < 3; ++part) walk(part);
    if (a_.o_before) prefetch_before();
    if (!loaded_) put_marker(kNothing);
  }
  __device__ void close() { put_marker(kOver); }

 private:
  __device__ Sight sight_of(const KvRef& ref, bool far) const {
    const int64_t last = first_ + min(S::kQueriesOfTile, a_.m - from_) - 1;
    return sight(first_, last, ref.position, ref.begin, ref.end, far ? a_.far_band : a_.near_band);
  }

  // The consumers load it when they come to this item's end, some tiles of keys later.
  __device__ void prefetch_before() const {
    for (int row = from_ + lane_; row < min(from_ + S::kQueriesOfTile, a_.m); row += 32) {
      const int64_t at = int64_t{row} * a_.shape.heads + head_;
      prefetch_l2(a_.o_before + at * kHeadDim, kHeadDim * sizeof(float));
      prefetch_l2_line(a_.lse_before + at);
    }
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
    int k_row = 0, v_row = 0;
    TileNote mine;
    if (seen >> lane_ & 1) {
      const KvRef ref = list.refs[base + lane_];
      const Sight sight = sight_of(ref, far);
      const int row = list.row_offset + head_ / a_.shape.group() * kKeys;
      k_row = ref.k_row + row;
      v_row = ref.v_row + row;
      const bool partial = !sight.all || ref.begin > 0 || ref.end < kKeys;
      mine = {pack_note(ref.begin, ref.end, partial ? kPartial : 0), sight.low, sight.high, item_};
    }
#pragma unroll 1
    for (; seen; seen &= seen - 1) {
      const int from = __ffs(seen) - 1;
      TileNote note = shuffle(mine, from);
      const bool first = !loaded_, queries = !(loaded_ >> far & 1);
      note.packed |= pack_note(0, 0, (first ? kFirst : 0) | (queries ? kQueries : 0));
      loaded_ |= 1u << far;
      claim();
      if (lane_ == 0) s_.note[ring_.slot] = note;
      copy_rows(__shfl_sync(~0u, k_row, from), s_.full[ring_.slot]);
      ring_.advance();
      if (queries) copy_queries(far);
      put_values();
      value_row_ = __shfl_sync(~0u, v_row, from);
      value_begin_ = note.begin();
      value_end_ = note.end();
    }
  }

  __device__ void put_marker(uint32_t kind) {
    claim();
    if (lane_ == 0) {
      s_.note[ring_.slot] = {pack_note(0, 0, kind), 0, 0, item_};
      arrive(s_.full[ring_.slot]);
    }
    ring_.advance();
    put_values();
    value_row_ = -1;
  }

  // Those of the tile before, if there was one.
  __device__ void put_values() {
    if (value_row_ < 0) return;
    claim();
    if (value_begin_ > 0 || value_end_ < kKeys)
      copy_ragged();
    else
      copy_rows(value_row_, s_.full[ring_.slot]);
    ring_.advance();
  }

  // Values of tokens that do not take part may be anything. Their weights are zero, but zero times
  // NaN is not: they are cleared before the consumers hear of them.
  __device__ void copy_ragged() {
    copy_rows(value_row_, s_.landed);
    wait(s_.landed, landed_);
    landed_ ^= 1;
    for (int row = lane_; row < kKeys; row += 32) {
      if (row >= value_begin_ && row < value_end_) continue;
      for (int i = 0; i < kHeadDim / 8; ++i) {
        *reinterpret_cast<uint4*>(s_.kv[ring_.slot] + i / 8 * kKeys * 128 + row * 128 +
                                  i % 8 * 16) = {};
      }
    }
    fence_async_proxy();
    __syncwarp();
    if (lane_ == 0) arrive(s_.full[ring_.slot]);
  }

  __device__ void copy_queries(bool far) {
    if (lane_ == 0) {
      wait(s_.q_empty, queries_ ^ 1);
      arrive_expecting(s_.q_full, S::kQueryBytes);
      copy_box(s_.q, far ? maps_.q_far : maps_.q_near, s_.q_full, 0, from_, 0, head_);
    }
    queries_ ^= 1;
  }

  __device__ void claim() {
    if (lane_ == 0) wait(s_.empty[ring_.slot], ring_.parity ^ 1);
  }
  // The keys or values from that row on, to the ring's slot.
  __device__ void copy_rows(int row, Barrier& done) {
    if (lane_ == 0) {
      arrive_expecting(done, S::kTileBytes);
      copy_box(s_.kv[ring_.slot], maps_.arena, done, 0, row, 0);
    }
    __syncwarp();
  }

  const PrefillAttention& a_;
  const PrefillMaps& maps_;
  S& s_;
  int lane_, item_ = 0, head_ = 0, from_ = 0;
  int64_t first_ = 0;  // position of query from_
  uint32_t loaded_ = 0;  // bit 0: near queries, bit 1: far queries
  int value_row_ = -1, value_begin_ = 0, value_end_ = 0;
  Ring<S::kSlots> ring_;
  uint32_t queries_ = 0, landed_ = 0;  // parities
};

}  // namespace ringtide::kernels::cuda

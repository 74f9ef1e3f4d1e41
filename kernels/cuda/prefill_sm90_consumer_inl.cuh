// A warpgroup that multiplies: 64 queries of every tile of queries.
//
// It has the products of two tiles of keys in flight: keys of one, then values of the one before;
// while the latter run it turns the former into weights. Consumers take turns in issuing, so that
// one's weighing falls into another's products (the schedule of FlashAttention-3,
// arXiv:2407.08608). The chain goes on from one tile of queries to the next.
#pragma once

#include "kernels/cuda/prefill_sm90_inl.cuh"
#include "kernels/cuda/softmax_inl.cuh"

namespace ringtide::kernels::cuda {

template <int kHeadDim, int kGroups, class Carried>
class PrefillConsumer {
 public:
  using S = PrefillShared<kHeadDim, kGroups>;

  // `group` counts the consumers.
  __device__ PrefillConsumer(const PrefillAttention& a, S& shared, int group)
      : a_(a),
        s_(shared),
        group_(group),
        thread_(threadIdx.x % 128),
        row_(64 * group + thread_ / 32 * 16 + threadIdx.x % 32 / 4),
        scale_log2_(a.scale * kLog2E),
        k_operand_(operand(shared.kv[0])),
        v_operand_(operand(shared.kv[0], kKeys * 128)) {}

  __device__ void consume() {
    float s[kKeys / 2] = {}, o[kHeadDim / 2] = {};
    uint32_t p[kKeys / 4];
    uint32_t q[kHeadDim / 4] = {};
    SoftmaxRows rows;
    float scale_before[2];
    if (group_ == kGroups - 1) pass_turn();

    TileNote next = await_note();
    while (true) {
      const bool chain = !next.has(kNothing | kOver);
      if (chain) {
        rows = {};
        item_ = next.item;
        take_queries(q);
        take_turn();
        multiply_keys(q, s, ring_.slot);
        pass_turn();
        wgmma_wait<0>();
        hold(s);
        release(ring_.slot);
        ring_.advance();
        weigh(s, next, rows, scale_before);
        pack<kKeys / 8>(s, p);
        next = await_note();
        while (!next.has(kNothing | kOver)) {
          const int k_slot = ring_.slot;
          if (next.has(kQueries)) take_queries(q);
          take_turn();
          multiply_keys(q, s, k_slot);
          ring_.advance();
          const int v_slot = ring_.slot;
          await();
          multiply_values(p, v_slot, o);
          ring_.advance();
          pass_turn();
          wgmma_wait<1>();
          hold(s);
          release(k_slot);
          const TileNote after = await_note();
          const bool first = next.has(kFirst);
          const SoftmaxRows before = rows;
          const int item = next.item;
          if (first) rows = {};
          weigh(s, next, rows, scale_before);
          // The assembler would move the wait for the products up, above the weighing that is to
          // run beside them. It does not cross this branch, which needs the sums; NaN alone takes
          // it, and only waits for what has come.
          if (!__all_sync(~0u, rows.sum[0] + rows.sum[1] >= 0)) await();
          next = after;
          wgmma_wait<0>();
          hold(o);
          hold(p);
          release(v_slot);
          pack<kKeys / 8>(s, p);
          if (first) {
            write(o, before);
            item_ = item;
          } else {
            rescale<kHeadDim / 8>(o, scale_before);
          }
        }
      }
      const bool over = next.has(kOver);
      const int unseeing = next.item;
      release(ring_.slot);
      ring_.advance();
      if (chain) {
        await();
        multiply_values(p, ring_.slot, o);
        wgmma_wait<0>();
        hold(o);
        release(ring_.slot);
        ring_.advance();
        write(o, rows);
      }
      if (over) break;
      rows = {};
      item_ = unseeing;
      write(o, rows);
      next = await_note();
    }
    if (group_ == 0) take_turn();  // what the last one passed
  }

 private:
  __device__ void take_turn() { named_sync(1 + group_, 256); }
  __device__ void pass_turn() { named_arrive(1 + (group_ + 1) % kGroups, 256); }

  __device__ void await() { wait(s_.full[ring_.slot], ring_.parity); }
  // Read by the lane that releases the slot.
  __device__ TileNote await_note() {
    await();
    TileNote note;
    if (thread_ % 32 == 0) note = s_.note[ring_.slot];
    return shuffle(note, 0);
  }
  __device__ void release(int slot) {
    __syncwarp();
    if (thread_ % 32 == 0) arrive(s_.empty[slot]);
  }
  // From shared memory to registers: products that take them from there are 2 % faster.
  __device__ void take_queries(uint32_t (&q)[kHeadDim / 4]) {
    wait(s_.q_full, queries_);
    queries_ ^= 1;
    const int row = 64 * group_ + thread_ / 32 * 16 + thread_ % 16;
#pragma unroll
    for (int d = 0; d < kHeadDim / 16; ++d) {
      const int chunk = d % 4 * 2 + thread_ % 32 / 16;  // of 16 bytes, swizzled
      load_matrices(&q[4 * d],
                    s_.q + d / 4 * S::kQueriesOfTile * 128 + row * 128 + (chunk ^ row % 8) * 16);
    }
    __syncwarp();
    if (thread_ % 32 == 0) arrive(s_.q_empty);
  }

  __device__ void multiply_keys(uint32_t (&q)[kHeadDim / 4], float (&s)[kKeys / 2], int slot) {
    const uint64_t k = uniform(operand_at(k_operand_, slot * S::kTileBytes));
    hold(s);
    hold(q);
    wgmma_fence();
    wgmma_columns<false>(s, q, k);
#pragma unroll
    for (int d = 1; d < kHeadDim / 16; ++d)
      wgmma_columns<true>(s, &q[4 * d], operand_at(k, d / 4 * kKeys * 128 + d % 4 * 32));
    wgmma_commit();
  }

  __device__ void multiply_values(uint32_t (&p)[kKeys / 4], int slot, float (&o)[kHeadDim / 2]) {
    const uint64_t v = uniform(operand_at(v_operand_, slot * S::kTileBytes));
    hold(o);
    hold(p);
    wgmma_fence();
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) wgmma_rows(o, &p[4 * n], operand_at(v, n * 16 * 128));
    wgmma_commit();
  }

  __device__ void weigh(float (&s)[kKeys / 2], const TileNote& note, SoftmaxRows& rows,
                        float (&scale_before)[2]) {
    if (note.has(kPartial)) mask<kKeys / 8>(s, row_, note.begin(), note.end(), note.low, note.high);
    absorb<kKeys / 8>(s, scale_log2_, rows, scale_before);
  }

  // The result of the item in hand.
  __device__ void write(float (&o)[kHeadDim / 2], const SoftmaxRows& rows) {
    const Item item(a_, S::kQueriesOfTile, item_);
    Carried carry;
    if constexpr (Carried::before) {
      carry.o_before = a_.o_before + item.head * kHeadDim;
      carry.lse_before = a_.lse_before + item.head;
    }
    if constexpr (Carried::partial) carry.o32 = a_.o32 + item.head * kHeadDim;
    finish<kHeadDim / 8>(o, rows, scale_log2_, item.tile * S::kQueriesOfTile + row_, a_.m,
                         a_.shape.heads, a_.o + item.head * kHeadDim,
                         a_.lse ? a_.lse + item.head : nullptr, carry);
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) o[i] = 0;
  }

  const PrefillAttention& a_;
  S& s_;
  int group_, thread_, row_;
  float scale_log2_;
  uint64_t k_operand_, v_operand_;
  int item_ = 0;
  Ring<S::kSlots> ring_;
  uint32_t queries_ = 0;  // parity
};

}  // namespace ringtide::kernels::cuda

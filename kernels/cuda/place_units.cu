// A lookup's second half: slots for the chosen units, and the copies of what is in none.
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/lookup_scratch.h"
#include "kernels/cuda/reduce_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxSelect = 1024;
constexpr int kMaxSlots = 8192;

// Places of chosen units that have no slot yet, or will have none: not in memory; not here.
constexpr int kFetch = -1, kMissing = -2, kNone = -3;
// Slots whose state is kept at hand while it is searched.
constexpr int kAtHand = 256;

// One block a row.
__global__ void __launch_bounds__(kThreads) assign(const Lookup a, const LookupScratch scratch) {
  __shared__ int wanted[kMaxSelect];  // chosen units
  __shared__ int place[kMaxSelect];   // of each: its slot, or one of the above
  __shared__ int freed[kMaxSelect];   // slots to take, those used longest ago first
  __shared__ const std::byte* payload[kMaxSelect];
  __shared__ uint32_t keys[kMaxSelect];
  __shared__ uint32_t busy[kMaxSlots / 32];
  __shared__ int32_t units_at_hand[kAtHand], copies_at_hand[kAtHand];
  __shared__ int64_t used_at_hand[kAtHand];
  __shared__ int chosen_count, fetches, lost_count;
  __shared__ uint32_t begun;
  const int row = blockIdx.x, tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  for (int i = tid; i < kMaxSlots / 32; i += kThreads) busy[i] = 0;
  if (tid == 0) chosen_count = fetches = lost_count = 0;
  const Memory m = a.memory[row];
  const Slots slots = a.slots[row];
  const int32_t* const chosen = a.chosen + int64_t{row} * a.max_select;
  const int count = min(slots.slots, kMaxSlots);
  const int64_t tick = *a.tick;
  const int64_t chunk_values = int64_t{2} * a.shape.kv_heads * a.unit * a.shape.head_dim;
  const bool at_hand = count <= kAtHand;
  const bool ends_guess = slots.begun && !a.guess;
  // Slots are older than the choice, which is the kernel in front.
  if (at_hand) {
    for (int s = tid; s < count; s += kThreads) {
      units_at_hand[s] = slots.unit[s];
      used_at_hand[s] = slots.used[s];
      if (ends_guess) copies_at_hand[s] = slots.copy[s];
    }
  }
  after_previous();
  if (ends_guess && tid == 0) begun = atomicOr(slots.begun, kNoMore) & ~kNoMore;
  for (int i = tid; i < a.max_select; i += kThreads) {
    const int unit = wanted[i] = chosen[i];
    const bool here = unit >= 0 && unit % m.shards == m.shard;
    payload[i] = here ? m.payload[unit] : nullptr;
    place[i] = !here ? kNone : payload[i] ? kFetch : kMissing;
    freed[i] = -1;
    if (a.guess) keys[i] = scratch.keys[int64_t{row} * a.max_select + i];
  }
  int32_t* const slot_unit = at_hand ? units_at_hand : slots.unit;
  const int64_t* const slot_used = at_hand ? used_at_hand : slots.used;
  __syncthreads();
  if (ends_guess) {
    const int32_t* const copies = at_hand ? copies_at_hand : slots.copy;
    for (int s = tid; s < count; s += kThreads) {
      const int copy = copies[s];
      if (copy < 0) continue;
      slots.copy[s] = -1;
      if (copy >= static_cast<int>(begun)) slot_unit[s] = slots.unit[s] = -1;
    }
    __syncthreads();
  }
  // A warp looks for one chosen unit in the slots, then for what was used before one slot.
  for (int i = warp; i < a.max_select; i += kThreads / 32) {
    if (place[i] == kNone) continue;
    int at = -1;
    for (int s = lane; s < count; s += 32)
      if (slot_unit[s] == wanted[i]) at = s;
    at = __reduce_max_sync(kAllLanes, at);
    if (lane > 0) continue;
    atomicAdd(&chosen_count, 1);
    if (at >= 0) {
      place[i] = at;
      atomicOr(&busy[at / 32], 1u << at % 32);
    } else {
      atomicAdd(place[i] == kFetch ? &fetches : &lost_count, 1);
    }
  }
  __syncthreads();
  // An empty slot counts as used before all others.
  const auto used = [&](int s) { return slot_unit[s] < 0 ? int64_t{-1} : slot_used[s]; };
  const auto is_free = [&](int s) { return (busy[s / 32] >> s % 32 & 1u) == 0; };
  if (fetches > 0) {
    for (int s = warp; s < count; s += kThreads / 32) {
      if (!is_free(s)) continue;
      const int64_t mine = used(s);
      int rank = 0;
      for (int other = lane; other < count; other += 32) {
        if (!is_free(other)) continue;
        const int64_t theirs = used(other);
        rank += theirs < mine || (theirs == mine && other < s);
      }
      rank = __reduce_add_sync(kAllLanes, rank);
      if (lane == 0 && rank < fetches) freed[rank] = s;
    }
  }
  __syncthreads();

  KvRef* const refs = a.refs + int64_t{row} * a.max_select;
  int32_t* const missing = a.missing + int64_t{row} * a.max_select;
  ChunkCopy* const copies = scratch.copies + int64_t{row} * a.max_select;
  for (int i = tid; i < a.max_select; i += kThreads) {
    if (place[i] == kNone) continue;
    // How many before it are of each kind.
    int fetched = 0, lost = 0, listed = 0;
    for (int j = 0; j < i; ++j) {
      fetched += place[j] == kFetch;
      lost += place[j] == kMissing;
      listed += place[j] >= kFetch;
    }
    const int unit = wanted[i];
    if (place[i] == kMissing) {
      missing[lost] = unit;
      continue;
    }
    const bool fetch = place[i] == kFetch;
    const int slot = fetch ? freed[fetched] : place[i];
    const int32_t k_row = slots.first_row + slot * 2 * a.shape.kv_heads * a.unit;
    refs[listed] = {k_row, k_row + a.shape.kv_heads * a.unit, unit == 0 ? m.sinks : 0, a.unit,
                      int64_t{unit} * a.unit};
    slots.used[slot] = fetch ? tick : max(slot_used[slot], tick);
    if (!fetch) continue;
    slots.unit[slot] = unit;
    int copy = fetched;
    if (a.guess) {
      copy = 0;
      for (int j = 0; j < a.max_select; ++j)
        copy += place[j] == kFetch && (keys[j] > keys[i] || (keys[j] == keys[i] && j < i));
      slots.copy[slot] = copy;
    }
    copies[copy] = {payload[i] + a.layer * chunk_values * static_cast<int64_t>(sizeof(bf16)),
                    a.arena.base + int64_t{k_row} * a.shape.head_dim};
  }
  for (int i = lost_count + tid; i < a.max_select; i += kThreads) missing[i] = -1;
  if (tid == 0) {
    a.counts[row] = chosen_count - lost_count;
    scratch.copy_counts[row] = fetches;
    if (a.guess) *slots.begun = 0;
    // Added where they are: nobody waits for what was there.
    const auto add = [](int64_t& total, int more) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&total),
                static_cast<unsigned long long>(more));
    };
    LookupCounts& totals = a.totals[row];
    add(totals.hits, chosen_count - lost_count - fetches);
    add(totals.fetched, fetches);
    add(totals.missing, lost_count);
  }
}

// In flight are 128 KiB, what fills the link to the host where nothing else runs, and twice as much of
// guesses, which come beside products. From many multiprocessors, since loads of one that waits for
// the host wait for each other.
constexpr int kCopyThreads = 256;
constexpr int kCopyBlocks = 32, kGuessBlocks = 64;  // each has an equal piece of every copy

__global__ void __launch_bounds__(kCopyThreads)
    fetch(const Lookup a, const LookupScratch scratch, const int64_t vectors) {
  __shared__ bool begins[2];  // of the copies of even numbers, of odd ones
  after_previous();
  const int row = blockIdx.y, tid = threadIdx.x;
  const int count = scratch.copy_counts[row];
  const ChunkCopy* const copies = scratch.copies + int64_t{row} * a.max_select;
  const int64_t piece = (vectors + gridDim.x - 1) / gridDim.x;
  const int64_t begin = blockIdx.x * piece, end = min(begin + piece, vectors);
  uint32_t* const begun = a.guess ? a.slots[row].begun : nullptr;
  // What one block has begun all blocks do.
  const auto may_begin = [&](int copy) {
    const uint32_t before = atomicMax(begun, copy + 1);
    return before < kNoMore || copy < static_cast<int>(before & ~kNoMore);
  };
  if (begun && count > 0) {
    if (tid == 0) begins[0] = may_begin(0);
    __syncthreads();
    if (!begins[0]) return;
  }
  for (int i = 0; i < count; ++i) {
    const auto* const from = reinterpret_cast<const int4*>(copies[i].from);
    auto* const to = reinterpret_cast<int4*>(copies[i].to);
    bool next = true;
    for (int64_t at = begin + tid; at < end; at += kCopyThreads) {
      const int4 x = __ldcs(from + at);
      // Asked beside the last load, so that the answer takes no time of its own.
      if (begun && tid == 0 && i + 1 < count && at + kCopyThreads >= end) next = may_begin(i + 1);
      to[at] = x;
    }
    if (!begun) continue;
    if (tid == 0) begins[(i + 1) % 2] = next;
    __syncthreads();
    if (!begins[(i + 1) % 2]) return;
  }
}

}  // namespace

void assign_slots(const Lookup& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  if (a.max_select > kMaxSelect)
    throw std::invalid_argument("assign_slots: " + std::to_string(a.max_select) +
                                " units wanted at once; at most " + std::to_string(kMaxSelect));
  launch("assign_slots", assign, a.rows, kThreads, 0, stream, a, LookupScratch(a));
}

void fetch_units(const Lookup& a, cudaStream_t stream) {
  if (a.rows == 0 || a.max_select == 0) return;
  const int64_t vectors = int64_t{2} * a.shape.kv_heads * a.unit * a.shape.head_dim / 8;
  launch("fetch_units", fetch, dim3(a.guess ? kGuessBlocks : kCopyBlocks, a.rows), kCopyThreads, 0, stream, a,
         LookupScratch(a), vectors);
}

}  // namespace ringtide::kernels::cuda

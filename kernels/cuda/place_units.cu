// A lookup's second half: slots for the chosen units, and the copies of what is in none.
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/lookup_scratch.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kMaxSelect = 1024;
constexpr int kMaxSlots = 8192;

// Places of chosen units before they have a slot.
constexpr int kFetch = -1, kMissing = -2;

// One block a row.
__global__ void __launch_bounds__(kThreads) assign(const Lookup a, const LookupScratch scratch) {
  __shared__ int place[kMaxSelect];  // of each chosen unit: its slot, or kFetch, kMissing
  __shared__ int freed[kMaxSelect];  // slots to take, those used longest ago first
  __shared__ uint32_t busy[kMaxSlots / 32];
  __shared__ int fetches;
  after_previous();
  const int row = blockIdx.x, tid = threadIdx.x;
  const Memory m = a.memory[row];
  const Slots slots = a.slots[row];
  const int32_t* const chosen = a.chosen + int64_t{row} * a.max_select;
  const int count = min(slots.slots, kMaxSlots);
  const int64_t tick = *a.tick;
  const int64_t chunk_values = int64_t{2} * a.shape.kv_heads * a.unit * a.shape.head_dim;

  for (int i = tid; i < kMaxSlots / 32; i += kThreads) busy[i] = 0;
  if (tid == 0) fetches = 0;
  __syncthreads();
  for (int i = tid; i < a.max_select; i += kThreads) {
    freed[i] = -1;
    const int unit = chosen[i];
    int at = kMissing;
    if (unit >= 0) {
      if (m.payload[unit]) at = kFetch;
      for (int s = 0; s < count; ++s)
        if (slots.unit[s] == unit) at = s;
      if (at >= 0) atomicOr(&busy[at / 32], 1u << at % 32);
      if (at == kFetch) atomicAdd(&fetches, 1);
    }
    place[i] = at;
  }
  __syncthreads();
  // An empty slot counts as used before all others.
  const auto used = [&](int s) { return slots.unit[s] < 0 ? int64_t{-1} : slots.used[s]; };
  const auto is_free = [&](int s) { return (busy[s / 32] >> s % 32 & 1u) == 0; };
  if (fetches > 0) {
    for (int s = tid; s < count; s += kThreads) {
      if (!is_free(s)) continue;
      const int64_t mine = used(s);
      int rank = 0;
      for (int other = 0; other < count; ++other) {
        if (!is_free(other)) continue;
        const int64_t theirs = used(other);
        rank += theirs < mine || (theirs == mine && other < s);
      }
      if (rank < fetches) freed[rank] = s;
    }
  }
  __syncthreads();

  KvRef* const refs = a.refs + int64_t{row} * a.max_select;
  int32_t* const missing = a.missing + int64_t{row} * a.max_select;
  ChunkCopy* const copies = scratch.copies + int64_t{row} * a.max_select;
  for (int i = tid; i < a.max_select; i += kThreads) {
    // How many before it are of each kind.
    int fetched = 0, lost = 0;
    for (int j = 0; j < i; ++j) {
      fetched += place[j] == kFetch;
      lost += place[j] == kMissing;
    }
    const int unit = chosen[i];
    if (unit < 0) continue;
    if (place[i] == kMissing) {
      missing[lost] = unit;
      continue;
    }
    const int slot = place[i] == kFetch ? freed[fetched] : place[i];
    const int32_t k_row = slots.first_row + slot * 2 * a.shape.kv_heads * a.unit;
    refs[i - lost] = {k_row, k_row + a.shape.kv_heads * a.unit, unit == 0 ? m.sinks : 0, a.unit,
                      int64_t{unit} * a.unit};
    slots.used[slot] = tick;
    if (place[i] != kFetch) continue;
    slots.unit[slot] = unit;
    copies[fetched] = {
        m.payload[unit] + a.layer * chunk_values * static_cast<int64_t>(sizeof(bf16)),
        a.arena.base + int64_t{k_row} * a.shape.head_dim};
  }
  if (tid == 0) {
    int units = 0, lost = 0;
    for (int i = 0; i < a.max_select; ++i) {
      units += chosen[i] >= 0;
      lost += chosen[i] >= 0 && place[i] == kMissing;
    }
    for (int i = lost; i < a.max_select; ++i) missing[i] = -1;
    a.counts[row] = units - lost;
    scratch.copy_counts[row] = fetches;
    LookupCounts& totals = a.totals[row];
    totals.hits += units - lost - fetches;
    totals.fetched += fetches;
    totals.missing += lost;
  }
}

constexpr int kCopyThreads = 256;
constexpr int kCopyBlocks = 32;  // of a row: each has an equal piece of every copy
constexpr int kInFlight = 4;     // loads of 16 bytes a thread

__global__ void __launch_bounds__(kCopyThreads)
    fetch(const Lookup a, const LookupScratch scratch, const int64_t vectors) {
  after_previous();
  const int row = blockIdx.y;
  const int count = scratch.copy_counts[row];
  const ChunkCopy* const copies = scratch.copies + int64_t{row} * a.max_select;
  const int64_t piece = (vectors + kCopyBlocks - 1) / kCopyBlocks;
  const int64_t begin = blockIdx.x * piece, end = min(begin + piece, vectors);
  for (int i = 0; i < count; ++i) {
    const auto* const from = reinterpret_cast<const int4*>(copies[i].from);
    auto* const to = reinterpret_cast<int4*>(copies[i].to);
    for (int64_t at = begin + threadIdx.x; at < end; at += kCopyThreads * kInFlight) {
      int4 x[kInFlight];
#pragma unroll
      for (int j = 0; j < kInFlight; ++j)
        if (at + j * kCopyThreads < end) x[j] = __ldcs(from + at + j * kCopyThreads);
#pragma unroll
      for (int j = 0; j < kInFlight; ++j)
        if (at + j * kCopyThreads < end) to[at + j * kCopyThreads] = x[j];
    }
  }
}

}  // namespace

void place_units(const Lookup& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  if (a.max_select > kMaxSelect)
    throw std::invalid_argument("place_units: " + std::to_string(a.max_select) +
                                " units wanted at once; at most " + std::to_string(kMaxSelect));
  const LookupScratch scratch(a);
  launch("place_units", assign, a.rows, kThreads, 0, stream, a, scratch);
  if (a.max_select > 0) {
    const int64_t vectors = int64_t{2} * a.shape.kv_heads * a.unit * a.shape.head_dim / 8;
    launch("place_units", fetch, dim3(kCopyBlocks, a.rows), kCopyThreads, 0, stream, a, scratch,
           vectors);
  }
}

}  // namespace ringtide::kernels::cuda

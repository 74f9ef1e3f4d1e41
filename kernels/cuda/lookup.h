// A lookup on the device: relevance of every unit, the best of them, slots for those, and the copy
// of what is missing. Nothing waits for the host and nothing is allocated: it can be captured.
//
// The index of one sequence is an array of groups of kIndexGroup units; a group is (layers,
// kIndexGroup, heads, head_dim) bf16. Group pointers are in device memory.
#pragma once

#include <cstddef>

#include "kernels/cuda/attention.h"

namespace ringtide::kernels::cuda {

constexpr int32_t kIndexGroup = 64;  // units

// Vote of a head: its inner product as it is, or its softmax over the units of scale times it.
enum class Vote : uint8_t { Sum, Softmax };

// What of a sequence a lookup reads and changes: device memory, one a row.
struct Memory {
  const bf16* const* groups = nullptr;  // device array of group pointers
  int32_t sealed = 0;                   // units there are
  int32_t first = 0;                    // units below are never chosen
  int32_t select = 0;                   // units wanted; fewer exist: all are chosen
  // Where each unit's payload can be read, (sealed): layer 0's chunk, K plane then V plane, in pinned
  // host memory (mapped) or in device memory; layer l: + l * chunk_bytes. Null: only in the store.
  const std::byte* const* payload = nullptr;
  int32_t sinks = 0;                    // tokens of unit 0 that are seen anyway: left out of it
  // Of a ring: who has a unit's payload is its number modulo `shards`. Those of other shards are
  // chosen like all, but get no slot here.
  int32_t shard = 0, shards = 1;
};
// Slots of one layer of one sequence: a small cache of units in the arena. Slot s has its keys at
// row first_row + s * 2 * kv_heads * unit and its values kv_heads * unit rows after.
struct Slots {
  int32_t* unit = nullptr;   // (slots), which unit; -1: none
  int64_t* used = nullptr;   // (slots), tick of last use
  int32_t first_row = 0;
  int32_t slots = 0;         // at least select
  // Of guesses, see Lookup; null: nobody guesses here.
  int32_t* copy = nullptr;   // (slots), which of the latest guess's copies fills it; -1: none
  uint32_t* begun = nullptr; // how many of those have begun; kNoMore: no others may
};
constexpr uint32_t kNoMore = 1u << 31;
// What the host reads afterwards: pinned host memory or device memory.
struct LookupCounts {
  int64_t hits = 0;      // (layer, unit) found in a slot
  int64_t fetched = 0;   // copied from `payload`
  int64_t missing = 0;   // payload null: attended to without it
};

struct Lookup {
  Heads shape;
  int unit = 0, layers = 0, layer = 0;
  int32_t rows = 0;
  const bf16* q = nullptr;          // (rows, heads, head_dim): mean query, rotated to the lookup's place
  const Memory* memory = nullptr;   // device, (rows)
  const Slots* slots = nullptr;     // device, (rows): of this layer
  int32_t max_sealed = 0;           // host bound of `sealed` over the rows
  int32_t max_select = 0;           // and of `select`
  Vote vote = Vote::Softmax;
  float scale = 0;                  // of the softmax; 0: 1 / sqrt(head_dim)
  const int64_t* tick = nullptr;    // device, one number: when, in order of passes
  // Fills slots with what the next lookup of the same layer and row will likely choose. That one's
  // assign_slots() ends it: copies that have not begun by then are left out.
  bool guess = false;
  float* scratch = nullptr;         // lookup_scratch() floats
  // Out, device:
  int32_t* chosen = nullptr;        // (rows, max_select), ascending; then -1
  KvRef* refs = nullptr;            // (rows, max_select): blocks of the chosen units, absolute rows
  int32_t* counts = nullptr;        // (rows): of refs
  int32_t* missing = nullptr;       // (rows, max_select) units whose payload is null; then -1
  LookupCounts* totals = nullptr;   // (rows); added to
  Arena arena;
};
int64_t lookup_scratch(const Heads& shape, int32_t rows, int32_t max_sealed, int32_t max_select);

// choose_units: relevance and the best units (ties: the lower). Relevance is float32, summed over
// heads in order of heads; independent of rows. Representatives and `memory` are read before the
// kernel in front of it on the stream has ended: that one must not be what writes them.
// assign_slots: for each chosen unit of this shard a slot; those not in one yet take the slots used longest ago
// (ties: the lower slot) that this lookup does not use. Slots are used at `tick`, or later if they
// were already. Writes refs, counts, missing. The kernel in front on the stream must not be what
// writes slots.
// fetch_units: copies to the slots just assigned what is missing there; of a guess the most relevant
// first. Copies of an earlier guess to these slots must have ended.
void choose_units(const Lookup& a, cudaStream_t stream);
void assign_slots(const Lookup& a, cudaStream_t stream);
void fetch_units(const Lookup& a, cudaStream_t stream);

}  // namespace ringtide::kernels::cuda

// Where the pages, units and groups of a session are kept, as the engine sees it.
//
// Implemented by actors over the database, and by tests in memory. All calls may come from any
// thread.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace ringtide::model {

// 128-bit hash of the model's fingerprint, the policy's layout and the whole token prefix with its
// execution blocks up to the moment of sealing: equal keys mean equal values, and equal bytes where
// as many shards made them. Sums of another number of shards are rounded differently.
struct UnitKey {
  uint64_t hi = 0, lo = 0;
  auto operator<=>(const UnitKey&) const = default;
};

// What is kept of a unit, in two pieces, or of a full group. Immutable once handed over.
// Parts are of the KV type, but for sums.
//
// A page is kept as soon as it is full, and what finds it as a unit once it has left the window.
struct SealedUnit {
  enum class Kind : uint8_t {
    // Part l < layers is the payload of layer l: K then V, (kv_heads, unit, head_dim) each, K before
    // RoPE. Under policies that keep an index, two more, float32: sums of its queries, (layers,
    // heads, head_dim), and of their logits by its keys, (layers, heads, unit).
    Unit,
    // One part: a unit's representatives, (layers, heads, head_dim); float32 of a GPU's.
    Entry,
    // Of the index of the processors' engine (unit_index.h): part l < layers holds its units'
    // representatives of layer l, (kUnits, heads, head_dim); part `layers` its summary and a digest.
    Group,
  };
  UnitKey key;
  Kind kind = Kind::Unit;
  bool replaces = false;  // what is there under this key goes
  // Its place in the session: tokens [number * unit, (number + 1) * unit), or among the groups.
  int64_t number = 0;
  std::vector<std::span<const std::byte>> parts;
  std::shared_ptr<const void> owner;  // keeps the parts' memory
};

enum class ReadOutcome : uint8_t { Ok, Absent, Corrupt };

struct PartRead {
  UnitKey key;
  uint32_t part = 0;
  std::span<std::byte> into;  // exactly the part's size
  ReadOutcome outcome = ReadOutcome::Absent;
  // Of the stores of a ring: they had other bytes each, and these are one's.
  bool differed = false;
};

class UnitStore {
 public:
  virtual ~UnitStore() = default;
  // Takes a unit of session `owner` to keep, write-behind: readable at once, soon after it survives
  // the process. Blocks while too much waits to be written. A key that is there already gains an
  // owner, nothing more, unless the unit replaces it.
  virtual void put(uint64_t owner, SealedUnit unit) = 0;
  // Fills every read whose bytes are there and match their checksum, in parallel where that pays.
  // What is absent or corrupt is said in its outcome; a corrupt unit is dropped, so that a later
  // put replaces it.
  virtual void read(std::span<PartRead> reads) = 0;
  // Whether each of these is there.
  virtual std::vector<bool> contains(std::span<const UnitKey> keys) = 0;
  bool contains(const UnitKey& key) { return contains(std::span(&key, 1))[0]; }
};

}  // namespace ringtide::model

// How neighbours of a ring exchange bytes. Every shard sends to the next and receives from the
// previous one; decode gathers something small of all.
//
// Steps are numbered: all shards pass through the same numbers, from 0 on and none left out, also
// where they have nothing to send. A step out of its turn, here or in what arrives, is an error: no
// shard executes a plan out of order.
//
// Errors are RingError, which says who misses what of whom. Whatever went wrong, the ring is over
// then: every call of every shard that can still be told ends in RingError. No call waits longer
// than the deadline that the transport was made with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace ringtide::kernels::ring {

struct RingError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Step {
  uint64_t number = 0;
  std::span<const std::byte> send;  // to the next shard; empty: no message
  std::span<std::byte> receive;     // from the previous one; empty: none comes
};

// One shard's end. One thread uses it, but for abort().
class Transport {
 public:
  virtual ~Transport() = default;
  virtual int shard() const = 0;
  virtual int shards() const = 0;

  // Begins a step; the bytes stay as they are, and untouched, until it is waited for. At most two
  // steps are under way.
  virtual void post(const Step& step) = 0;
  // The oldest step under way is done: what it receives is there, and what it sends may change.
  virtual void wait(uint64_t number) = 0;
  // A step of its own: all = what every shard gave as `mine`, in the order of the shards.
  virtual void gather(uint64_t number, std::span<const std::byte> mine,
                      std::span<std::byte> all) = 0;
  // Ends the ring for everybody. Any thread.
  virtual void abort(const std::string& reason) = 0;
};

}  // namespace ringtide::kernels::ring

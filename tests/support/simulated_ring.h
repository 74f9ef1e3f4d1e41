// A ring in one process of which the order of everything, delays and one fault follow from a seed.
//
// One shard runs at a time; whose turn it is where several could go on is drawn. Time is virtual:
// it passes only while all wait, so a deadline costs nothing. Each shard has a thread; between
// enter() and leave() it runs in its turns.
#pragma once

#include <memory>
#include <stdexcept>
#include <vector>

#include "model/shard_transport.h"

namespace ringtide::testing {

// What a killed shard's calls throw from then on: there is no such process any more.
struct Killed : std::runtime_error {
  Killed() : std::runtime_error("killed") {}
};

struct RingFault {
  enum class Kind {
    None,
    Kill,   // the shard is gone, and nobody is told
    Hang,   // it stands still until long after the deadline
    Cut,    // nothing that it sends arrives any more
    Abort,  // somebody ends the ring
  } kind = Kind::None;
  int shard = 0;
  int64_t call = 0;  // strikes at the shard's call number `call`
};

class SimulatedRing {
 public:
  SimulatedRing(int shards, uint64_t seed, const RingFault& fault);
  ~SimulatedRing();

  model::ShardTransport& at(int shard);
  // All shards but killed ones enter, and then all leave, again and again.
  void enter(int shard);
  void leave(int shard);
  bool killed(int shard) const;
  bool struck() const;  // the fault has happened
  int64_t calls(int shard) const;

 private:
  struct State;
  class End;
  std::unique_ptr<State> state_;
  std::vector<std::unique_ptr<End>> ends_;
};

}  // namespace ringtide::testing

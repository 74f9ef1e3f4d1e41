// What leaves the device: copied to pinned memory beside the passes, then handed to the store and to
// its context. One thread.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "kernels/gpu.h"
#include "model/host_units.h"
#include "model/unit_store.h"

namespace ringtide::model {

struct GpuPage;

class GpuSpill {
 public:
  class Owner;
  // A part of what is stored, or several of one size, side by side.
  struct Piece {
    HostUnits::Buffer to;
    const void* from;
    int64_t bytes;
    int32_t parts = 1;
  };
  // What is stored of a page, or of a unit. Without pieces nothing is: its owner is only told when
  // all that left before is in host memory.
  struct Value {
    Owner* owner;
    SealedUnit::Kind kind;
    int64_t number;
    UnitKey key;
    GpuPage* page;
    std::vector<Piece> pieces;
  };
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual uint64_t owner_id() const = 0;
    // It is in host memory, as is all that it added before.
    virtual void left(const Value& value) = 0;
  };

  GpuSpill(kernels::Gpu& gpu, UnitStore& store) : gpu_(gpu), store_(store) {}

  // Copies something that is final when the compute queue has come this far.
  void add(Value value);
  // Hands over what has been copied; `all`: waits for everything. Returns whether nothing is left.
  bool settle(bool all);
  // Waits for the oldest. False: there is none.
  bool settle_one();
  // Everything of an owner that goes away: it is not told any more.
  void leave(Owner* owner) noexcept;

 private:
  void hand_over();

  kernels::Gpu& gpu_;
  UnitStore& store_;
  struct Item {
    Value value;
    std::unique_ptr<kernels::Gpu::Event> copied;
  };
  std::deque<Item> items_;
};

}  // namespace ringtide::model

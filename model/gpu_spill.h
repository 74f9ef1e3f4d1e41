// Sealed units on their way from the device: copied to pinned memory beside the passes, then handed
// to the store and to their context. One thread.
#pragma once

#include <deque>
#include <memory>

#include "kernels/gpu.h"
#include "model/host_units.h"
#include "model/unit_store.h"

namespace ringtide::model {

struct GpuPage;

class GpuSpill {
 public:
  // Told when its unit is in host memory. Its page is free from then on.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual uint64_t owner_id() const = 0;
    virtual void spilled(int64_t unit, GpuPage* page, const UnitKey& key,
                         HostUnits::Buffer buffer) = 0;
  };

  GpuSpill(kernels::Gpu& gpu, UnitStore& store) : gpu_(gpu), store_(store) {}

  // Copies a unit of which all is on the compute queue already: the payload, and after it in the
  // buffer the representatives, if there are any.
  struct Unit {
    Owner* owner;
    int64_t number;
    UnitKey key;
    GpuPage* page;
    HostUnits::Buffer buffer;
    int32_t layers;
    int64_t chunk_bytes, representative_bytes;
  };
  void add(Unit unit);
  // Hands over what has been copied; `all`: waits for everything.
  void settle(bool all);
  // Waits for the oldest. False: there is none.
  bool settle_one();
  // Everything of an owner that goes away: it is not told any more.
  void leave(Owner* owner) noexcept;

 private:
  void hand_over();

  kernels::Gpu& gpu_;
  UnitStore& store_;
  struct Item {
    Unit unit;
    std::unique_ptr<kernels::Gpu::Event> copied;
  };
  std::deque<Item> items_;
};

}  // namespace ringtide::model

#include "model/gpu_spill.h"

#include <algorithm>
#include <utility>

#include "model/gpu_pages.h"

namespace ringtide::model {

using kernels::Gpu;

void GpuSpill::add(Unit unit) {
  const int64_t payload = unit.layers * unit.chunk_bytes;
  auto event = gpu_.make_event();
  gpu_.record(*event);
  gpu_.wait(Gpu::Queue::Copy, *event);
  gpu_.copy(unit.buffer.get(), unit.page->payload, payload, Gpu::Queue::Copy);
  if (unit.representative_bytes > 0)
    gpu_.copy(unit.buffer.get() + payload, unit.page->representatives, unit.representative_bytes,
              Gpu::Queue::Copy);
  auto copied = gpu_.make_event();
  gpu_.record(*copied, Gpu::Queue::Copy);
  items_.push_back({std::move(unit), std::move(copied)});
}

void GpuSpill::settle(bool all) {
  while (!items_.empty()) {
    if (all) gpu_.synchronize(*items_.front().copied);
    if (!gpu_.reached(*items_.front().copied)) return;
    hand_over();
  }
}

bool GpuSpill::settle_one() {
  if (items_.empty()) return false;
  gpu_.synchronize(*items_.front().copied);
  hand_over();
  return true;
}

void GpuSpill::hand_over() {
  const Unit unit = std::move(items_.front().unit);
  items_.pop_front();
  SealedUnit sealed;
  sealed.key = unit.key;
  sealed.number = unit.number;
  const std::byte* at = unit.buffer.get();
  for (int32_t l = 0; l < unit.layers; ++l, at += unit.chunk_bytes)
    sealed.parts.emplace_back(at, static_cast<size_t>(unit.chunk_bytes));
  sealed.parts.emplace_back(at, static_cast<size_t>(unit.representative_bytes));
  sealed.owner = unit.buffer;
  const uint64_t id = unit.owner->owner_id();
  unit.owner->spilled(unit.number, unit.page, unit.key, unit.buffer);
  store_.put(id, std::move(sealed));
}

void GpuSpill::leave(Owner* owner) noexcept {
  const auto is_owners = [&](const Item& item) { return item.unit.owner == owner; };
  try {
    if (std::any_of(items_.begin(), items_.end(), is_owners)) settle(true);
  } catch (...) {
    // Its units can be computed again; a broken device or store says so to whoever uses it next.
    std::erase_if(items_, is_owners);
  }
}

}  // namespace ringtide::model

#include "model/gpu_spill.h"

#include <algorithm>
#include <utility>

namespace ringtide::model {

using kernels::Gpu;

void GpuSpill::add(Value value) {
  auto event = gpu_.make_event();
  gpu_.record(*event);
  gpu_.wait(Gpu::Queue::Copy, *event);
  for (const Piece& piece : value.pieces)
    gpu_.copy(piece.to.get(), piece.from, piece.bytes, Gpu::Queue::Copy);
  auto copied = gpu_.make_event();
  gpu_.record(*copied, Gpu::Queue::Copy);
  items_.push_back({std::move(value), std::move(copied)});
}

bool GpuSpill::settle(bool all) {
  while (!items_.empty()) {
    if (all) gpu_.synchronize(*items_.front().copied);
    if (!gpu_.reached(*items_.front().copied)) return false;
    hand_over();
  }
  return true;
}

bool GpuSpill::settle_one() {
  if (items_.empty()) return false;
  gpu_.synchronize(*items_.front().copied);
  hand_over();
  return true;
}

void GpuSpill::hand_over() {
  const Value value = std::move(items_.front().value);
  items_.pop_front();
  value.owner->left(value);
  if (value.pieces.empty()) return;
  SealedUnit stored;
  stored.key = value.key;
  stored.kind = value.kind;
  stored.number = value.number;
  for (const Piece& piece : value.pieces) {
    const int64_t size = piece.bytes / piece.parts;
    for (int32_t part = 0; part < piece.parts; ++part)
      stored.parts.emplace_back(piece.to.get() + part * size, static_cast<size_t>(size));
  }
  const uint64_t id = value.owner->owner_id();
  stored.owner = std::make_shared<std::vector<Piece>>(value.pieces);
  store_.put(id, std::move(stored));
}

void GpuSpill::leave(Owner* owner) noexcept {
  const auto is_owners = [&](const Item& item) { return item.value.owner == owner; };
  try {
    if (std::any_of(items_.begin(), items_.end(), is_owners)) settle(true);
  } catch (...) {
    // Its values can be computed again; a broken device or store says so to whoever uses it next.
    std::erase_if(items_, is_owners);
  }
}

}  // namespace ringtide::model

#include "model/host_units.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace ringtide::model {

// Pinning memory is slow, so it is done in slabs that are kept, of each size as much again as there is.
// Lives as long as any of its buffers.
class HostUnits::Pool : public std::enable_shared_from_this<Pool> {
 public:
  Pool(std::shared_ptr<kernels::Gpu> gpu, int64_t slab_bytes)
      : gpu_(std::move(gpu)), slab_bytes_(slab_bytes) {}
  ~Pool() {
    for (void* slab : slabs_) gpu_->release_host(slab);
  }

  Buffer take(int64_t bytes) {
    std::lock_guard lock(mutex_);
    Size& size = sizes_[bytes];
    if (size.spare.empty()) {
      const int64_t most = std::max<int64_t>(1, slab_bytes_ / bytes);
      const int64_t n = std::clamp<int64_t>(size.made, std::min<int64_t>(kLeast, most), most);
      auto* slab = static_cast<std::byte*>(gpu_->allocate_host(n * bytes));
      slabs_.push_back(slab);
      size.made += n;
      for (int64_t i = 0; i < n; ++i) size.spare.push_back(slab + i * bytes);
    }
    std::byte* memory = size.spare.back();
    size.spare.pop_back();
    return {memory, [pool = shared_from_this(), bytes](std::byte* p) { pool->give_back(p, bytes); }};
  }

 private:
  void give_back(std::byte* memory, int64_t bytes) {
    std::lock_guard lock(mutex_);
    sizes_[bytes].spare.push_back(memory);
  }
  struct Size {
    std::vector<std::byte*> spare;
    int64_t made = 0;  // buffers, spare or not
  };
  static constexpr int64_t kLeast = 8;

  const std::shared_ptr<kernels::Gpu> gpu_;
  const int64_t slab_bytes_;
  std::mutex mutex_;  // of all below
  std::vector<void*> slabs_;
  std::map<int64_t, Size> sizes_;
};

namespace {

constexpr int64_t kSlabBytes = int64_t{256} << 20;

}  // namespace

HostUnits::HostUnits(std::shared_ptr<kernels::Gpu> gpu, int64_t budget,
                     std::function<void(const UnitKey&)> forgotten)
    : pool_(std::make_shared<Pool>(std::move(gpu), std::min(kSlabBytes, budget / 16))),
      budget_(budget),
      forgotten_(std::move(forgotten)) {}

void HostUnits::forget_beyond(int64_t bytes) {
  while (bytes_ > bytes && !entries_.empty()) {
    const Entry& last = entries_.back();
    forgotten_(last.key);
    bytes_ -= last.bytes;
    by_key_.erase(last.key);
    entries_.pop_back();
  }
}

HostUnits::Buffer HostUnits::take(int64_t bytes) {
  forget_beyond(budget_ - bytes);
  return pool_->take(bytes);
}

void HostUnits::keep(const UnitKey& key, Buffer buffer, int64_t bytes) {
  if (by_key_.contains(key)) return;
  entries_.push_front({key, std::move(buffer), bytes});
  by_key_[key] = entries_.begin();
  bytes_ += bytes;
  forget_beyond(budget_);
}

HostUnits::Buffer HostUnits::find(const UnitKey& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->buffer;
}

}  // namespace ringtide::model

#include "model/unit_cache.h"

#include <algorithm>
#include <cstring>

namespace ringtide::model {

void UnitCache::fetch(std::span<Want> wants, int64_t bytes) {
  ++call_;
  reads_.clear();
  read_want_.clear();
  // What is here is marked before anything is forgotten for the sake of what is not.
  for (Want& want : wants) {
    auto found = by_id_.find({want.key, want.layer});
    want.data = nullptr;
    want.from_store = found == by_id_.end();
    if (want.from_store) continue;
    found->second->used = call_;
    entries_.splice(entries_.begin(), entries_, found->second);
    want.data = found->second->data.get();
  }
  for (size_t i = 0; i < wants.size(); ++i) {
    if (wants[i].data) continue;
    Entry& entry = insert({wants[i].key, wants[i].layer}, bytes);
    reads_.push_back(
        {wants[i].key, wants[i].layer, std::span(entry.data.get(), static_cast<size_t>(bytes))});
    read_want_.push_back(i);
  }
  if (reads_.empty()) return;
  store_.read(reads_);
  for (size_t r = 0; r < reads_.size(); ++r) {
    Want& want = wants[read_want_[r]];
    if (reads_[r].outcome == ReadOutcome::Ok)
      want.data = reads_[r].into.data();
    else
      erase(by_id_.at({want.key, want.layer}));
  }
}

void UnitCache::admit(const UnitKey& key, uint32_t layer, std::span<const std::byte> payload) {
  ++call_;
  const int64_t bytes = static_cast<int64_t>(payload.size());
  if (bytes > capacity_ || by_id_.contains({key, layer})) return;
  std::memcpy(insert({key, layer}, bytes).data.get(), payload.data(), payload.size());
}

void UnitCache::forget(const UnitKey& key) {
  for (auto next = entries_.begin(); next != entries_.end();) {
    const auto entry = next++;
    if (entry->id.key == key) erase(entry);
  }
}

void UnitCache::set_capacity(int64_t bytes) {
  capacity_ = bytes;
  ++call_;
  make_room(0);
}

UnitCache::Entry& UnitCache::insert(const Id& id, int64_t bytes) {
  make_room(bytes);
  entries_.push_front({id, bytes, call_, MappedBlock(static_cast<size_t>(bytes))});
  by_id_[id] = entries_.begin();
  bytes_ += bytes;
  return entries_.front();
}

void UnitCache::erase(List::iterator entry) {
  bytes_ -= entry->bytes;
  by_id_.erase(entry->id);
  entries_.erase(entry);
}

void UnitCache::make_room(int64_t bytes) {
  while (bytes_ + bytes > capacity_ && !entries_.empty() && entries_.back().used != call_)
    erase(std::prev(entries_.end()));
}

}  // namespace ringtide::model

#include "actors/cluster/shard_units.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace ringtide::actors::cluster {

void ShardUnits::put(uint64_t owner, model::SealedUnit unit) {
  auto known = owners_.find(owner);
  if (known == owners_.end()) {
    auto entry = store_.find(name_of(owner));
    if (!entry.ok()) entry = store_.create(name_of(owner), {});
    if (!entry.ok()) {
      // A unit is a cache: without it, the next ring computes more.
      return spdlog::error("a unit is let go: {}", entry.status().message());
    }
    known = owners_.emplace(owner, entry.value().id).first;
  }
  shelf_.put(known->second, std::move(unit));
}

storage::SessionSize ShardUnits::size(uint64_t session) {
  const auto entry = store_.find(name_of(session));
  if (!entry.ok()) return {};
  const auto size = store_.size(entry.value().id);
  return size.ok() ? size.value() : storage::SessionSize{};
}

void ShardUnits::keep_only(const std::vector<uint64_t>& sessions) {
  auto entries = store_.list();
  if (!entries.ok()) return;
  std::set<std::string> kept;
  for (const uint64_t session : sessions) kept.insert(name_of(session));
  for (const storage::SessionEntry& entry : entries.value()) {
    if (kept.contains(entry.name)) continue;
    shelf_.forget(entry.id);
    if (const auto status = store_.remove(entry.id); !status.ok()) {
      shelf_.remember(entry.id);
      spdlog::warn("units of a session that is gone stay for now: {}", status.message());
    }
  }
  owners_.clear();
}

}  // namespace ringtide::actors::cluster

#include "model/group_reader.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace ringtide::model {

SealedUnit sealed_group(const History& history, int64_t number,
                        std::shared_ptr<const IndexGroup> group, int32_t layers) {
  SealedUnit sealed;
  sealed.key = history.group_key(number);
  sealed.kind = SealedUnit::Kind::Group;
  sealed.number = number;
  for (int l = 0; l < layers; ++l) sealed.parts.push_back(group->rows(l));
  sealed.parts.push_back(group->summary());
  sealed.owner = std::move(group);
  return sealed;
}

std::shared_ptr<const IndexGroup> remake_group(const History& history, const PageLayout& layout,
                                               int64_t number, uint64_t owner, UnitStore& store,
                                               std::vector<int64_t>& lost) {
  const int64_t first = number * UnitIndex::kGroup, size = layout.unit_index_bytes();
  std::vector<std::byte> bytes(UnitIndex::kGroup * size);
  std::vector<PartRead> reads;
  for (int64_t u = 0; u < UnitIndex::kGroup; ++u)
    reads.push_back({history.keys()[first + u], 0, std::span(bytes).subspan(u * size, size)});
  store.read(reads);
  const size_t lost_before = lost.size();
  auto group = std::make_shared<IndexGroup>(layout);
  for (int64_t u = 0; u < UnitIndex::kGroup; ++u) {
    if (reads[u].outcome == ReadOutcome::Ok)
      group->set(u, reads[u].into);
    else
      lost.push_back(first + u);
  }
  if (lost.size() > lost_before) return nullptr;
  group->summarise();
  SealedUnit made = sealed_group(history, number, group, layout.layers);
  made.replaces = true;
  store.put(owner, std::move(made));
  return group;
}

void GroupReader::fetch(Context& context, int layer, std::span<const int64_t> groups,
                        std::vector<const std::byte*>& rows, std::vector<int64_t>& missing) {
  const int64_t bytes = IndexGroup::rows_bytes(context.layout());
  wants_.clear();
  for (const int64_t g : groups)
    wants_.push_back({context.history().group_key(g), static_cast<uint32_t>(layer)});
  cache_.fetch(wants_, bytes);
  rows.clear();
  for (size_t i = 0; i < groups.size(); ++i) {
    const std::byte* found = wants_[i].data;
    if (const auto made = remade_.find(wants_[i].key); !found && made != remade_.end())
      found = made->second.data();
    if (!found) {
      missing.push_back(groups[i]);
      zeros_.resize(bytes);
      found = zeros_.data();
    }
    rows.push_back(found);
  }
}

void GroupReader::remake(Context& context, int layer, int64_t group) {
  std::vector<int64_t> lost;
  auto made = remake_group(context.history(), context.layout(), group, context.id(), store_, lost);
  if (!made) {
    recover_(context, lost, Lost::Entry);
    lost.clear();
    made = remake_group(context.history(), context.layout(), group, context.id(), store_, lost);
  }
  if (!made)
    throw std::runtime_error("unit " + std::to_string(lost.front()) +
                             " was recomputed but the store does not give it back");
  const auto rows = made->rows(layer);
  const UnitKey key = context.history().group_key(group);
  remade_[key].assign(rows.begin(), rows.end());
  cache_.forget(key);
  ++context.counters.groups_remade;
}

}  // namespace ringtide::model

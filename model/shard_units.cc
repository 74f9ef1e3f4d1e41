#include "model/shard_units.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

namespace ringtide::model {
namespace {

// Bytes of one shard that are sent at once, but for a part that is larger.
constexpr int64_t kAtOnce = int64_t{4} << 20;

// What a shard says of a part.
struct Copy {
  enum State : uint64_t {
    kUnwanted,  // by this shard, which does not have it
    kHeld,      // not wanted, and here
    kRead,      // wanted, and read
    kMissed,    // wanted, and not here
  } state = kUnwanted;
  uint64_t digest = 0;  // of what was read
};

}  // namespace

bool ShardUnits::contains(const UnitKey& key) {
  const auto mine = static_cast<std::byte>(own_.contains(key));
  return std::ranges::any_of(ring_.gather({&mine, 1}),
                             [](std::byte has) { return has != std::byte{0}; });
}

void ShardUnits::read(std::span<PartRead> reads) {
  if (reads.empty()) return;
  std::vector<PartRead> wanted;
  for (const PartRead& r : reads)
    if (!r.into.empty()) wanted.push_back(r);
  if (!wanted.empty()) own_.read(wanted);
  std::vector<Copy> mine;
  size_t at = 0;
  for (PartRead& r : reads) {
    if (r.into.empty())
      mine.push_back({own_.contains(r.key) ? Copy::kHeld : Copy::kUnwanted});
    else if (wanted[at++].outcome == ReadOutcome::Ok)
      mine.push_back({Copy::kRead, XXH3_64bits(r.into.data(), r.into.size())});
    else
      mine.push_back({Copy::kMissed});
  }
  std::vector<Copy> copies(reads.size() * ring_.shards());
  std::memcpy(copies.data(), ring_.gather(std::as_bytes(std::span(mine))).data(),
              copies.size() * sizeof(Copy));

  std::vector<PartRead> missing;
  std::vector<size_t> missing_at;
  std::vector<int64_t> sources;
  for (size_t i = 0; i < reads.size(); ++i) {
    // The lowest shard that read it, else the lowest that has it.
    int source = -1;
    uint64_t digest = 0;
    bool missed = false, read = false;
    reads[i].differed = false;
    for (int s = 0; s < ring_.shards(); ++s) {
      const Copy& copy = copies[s * reads.size() + i];
      missed = missed || copy.state == Copy::kMissed;
      if (copy.state == Copy::kHeld && source < 0) source = s;
      if (copy.state != Copy::kRead) continue;
      if (read && copy.digest != digest) reads[i].differed = true;
      if (!std::exchange(read, true)) source = s, digest = copy.digest;
    }
    reads[i].outcome = source >= 0 ? ReadOutcome::Ok : ReadOutcome::Absent;
    if ((!missed && !reads[i].differed) || source < 0) continue;
    missing.push_back(reads[i]);
    missing_at.push_back(i);
    sources.push_back(source);
  }
  if (missing.empty()) return;
  send(missing, sources);
  for (size_t i = 0; i < missing.size(); ++i) reads[missing_at[i]].outcome = missing[i].outcome;
}

void ShardUnits::send(std::span<PartRead> reads, std::span<const int64_t> sources) {
  // A shard that sends a part may not want it itself: whoever does tells its size.
  std::vector<int64_t> sizes;
  for (const PartRead& r : reads) sizes.push_back(static_cast<int64_t>(r.into.size()));
  const std::vector<int64_t> all_sizes = ring_.gather_numbers(sizes);
  for (size_t i = 0; i < all_sizes.size(); ++i)
    sizes[i % sizes.size()] = std::max(sizes[i % sizes.size()], all_sizes[i]);

  std::vector<std::byte> mine, spare;
  std::vector<int64_t> totals(ring_.shards());
  for (size_t first = 0, end = 0; first < reads.size(); first = end) {
    std::fill(totals.begin(), totals.end(), 0);
    mine.clear();
    for (; end < reads.size(); ++end) {
      int64_t& total = totals[sources[end]];
      if (end > first && total + sizes[end] > kAtOnce) break;
      total += sizes[end] + 1;
      if (sources[end] != ring_.shard()) continue;
      spare.resize(sizes[end]);
      PartRead own{reads[end].key, reads[end].part, spare};
      own_.read({&own, 1});
      mine.push_back(std::byte{own.outcome == ReadOutcome::Ok});
      mine.insert(mine.end(), spare.begin(), spare.end());
    }
    mine.resize(*std::max_element(totals.begin(), totals.end()));
    const std::span<const std::byte> all = ring_.gather(mine);
    std::fill(totals.begin(), totals.end(), 0);
    for (size_t i = first; i < end; ++i) {
      const std::byte* from = all.data() + sources[i] * mine.size() + totals[sources[i]];
      totals[sources[i]] += sizes[i] + 1;
      reads[i].outcome = *from == std::byte{1} ? ReadOutcome::Ok : ReadOutcome::Absent;
      if (!reads[i].into.empty()) std::memcpy(reads[i].into.data(), from + 1, reads[i].into.size());
    }
  }
}

std::vector<int64_t> ShardUnits::bring(uint64_t owner, const History& history,
                                       const PageLayout& layout, const PageOwners& owners,
                                       std::span<const int64_t> units) {
  const int64_t index = layout.unit_index_bytes(), payload = layout.layers * layout.chunk_bytes();
  std::vector<int64_t> lost;
  for (const int64_t u : units) {
    SealedUnit unit;
    unit.key = history.keys()[u];
    unit.number = u;
    std::shared_ptr<std::byte[]> bytes;
    if (owners.kept(u)) bytes.reset(new std::byte[payload + index]);
    std::vector<PartRead> reads;
    for (int l = 0; l < layout.layers + (index > 0 ? 1 : 0); ++l) {
      const size_t size = l < layout.layers ? layout.chunk_bytes() : index;
      std::span<std::byte> into;
      if (bytes) into = {bytes.get() + l * layout.chunk_bytes(), size};
      reads.push_back({unit.key, static_cast<uint32_t>(l), into});
      unit.parts.push_back(into);
    }
    if (index == 0) unit.parts.push_back({});
    read(reads);
    if (!std::ranges::all_of(reads, [](const PartRead& r) { return r.outcome == ReadOutcome::Ok; }))
      lost.push_back(u);
    else if (bytes) {
      unit.owner = std::move(bytes);
      own_.put(owner, std::move(unit));
    }
  }
  return lost;
}

}  // namespace ringtide::model

#include "model/shard_units.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
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

std::vector<bool> ShardUnits::contains(std::span<const UnitKey> keys) {
  std::vector<bool> has = own_.contains(keys);
  if (keys.empty()) return has;
  std::vector<std::byte> mine;
  for (const bool here : has) mine.push_back(std::byte{here});
  const std::span<const std::byte> all = ring_.gather(mine);
  for (size_t i = 0; i < all.size(); ++i)
    if (all[i] != std::byte{0}) has[i % keys.size()] = true;
  return has;
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
  std::vector<int64_t> sizes(layout.layers, layout.chunk_bytes());  // of a page's parts
  if (layout.representatives)
    for (const int64_t floats : {layout.query_sum_floats(), layout.logit_sum_floats()})
      sizes.push_back(floats * static_cast<int64_t>(sizeof(float)));
  std::vector<int64_t> lost;
  for (const int64_t u : units) {
    SealedUnit unit;
    unit.key = history.page_keys()[u];
    unit.number = u;
    std::shared_ptr<std::byte[]> bytes;
    if (owners.kept(u))
      bytes.reset(new std::byte[std::accumulate(sizes.begin(), sizes.end(), int64_t{0})]);
    std::vector<PartRead> reads;
    int64_t at = 0;
    for (size_t part = 0; part < sizes.size(); ++part) {
      std::span<std::byte> into;
      if (bytes) into = {bytes.get() + at, static_cast<size_t>(sizes[part])};
      at += sizes[part];
      reads.push_back({unit.key, static_cast<uint32_t>(part), into});
      unit.parts.push_back(into);
    }
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

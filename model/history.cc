#include "model/history.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "model/unit_index.h"

namespace ringtide::model {
namespace {

UnitKey hash(const UnitKey& before, int64_t number, const void* bytes, size_t size) {
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  const uint64_t head[3] = {before.hi, before.lo, static_cast<uint64_t>(number)};
  XXH3_128bits_update(&state, head, sizeof(head));
  XXH3_128bits_update(&state, bytes, size);
  const XXH128_hash_t h = XXH3_128bits_digest(&state);
  return {h.high64, h.low64};
}

// Grows by an eighth: these are what stays in memory of a long context.
template <class T>
void make_room(std::vector<T>& list, size_t more) {
  const size_t need = list.size() + more;
  if (need > list.capacity()) list.reserve(need + need / 8 + 64);
}

}  // namespace

History::History(const PolicyConfig& policy, const std::string& fingerprint) : policy_(policy) {
  const int32_t numbers[] = {static_cast<int32_t>(policy.kind),
                             policy.window,
                             policy.sinks,
                             policy.unit,
                             policy.block,
                             policy.select,
                             policy.representatives,
                             static_cast<int32_t>(policy.vote),
                             policy.probe,
                             policy.true_positions};
  chain_ = hash({}, 0, fingerprint.data(), fingerprint.size());
  chain_ = hash(chain_, 0, numbers, sizeof(numbers));
}

History History::of(const PolicyConfig& policy, const std::string& fingerprint,
                    std::span<const TokenId> tokens, std::span<const int32_t> block_lengths) {
  History history(policy, fingerprint);
  size_t at = 0;
  for (int32_t length : block_lengths) {
    if (length <= 0 || at + length > tokens.size())
      throw ModelError("restore: block lengths do not fit the tokens");
    history.add(tokens.subspan(at, length));
    at += length;
  }
  if (at != tokens.size()) throw ModelError("restore: block lengths do not cover the tokens");
  return history;
}

int64_t History::add(std::span<const TokenId> block) {
  make_room(tokens_, block.size());
  make_room(ends_, 1);
  tokens_.insert(tokens_.end(), block.begin(), block.end());
  ends_.push_back(tokens());
  chain_ = hash(chain_, static_cast<int64_t>(block.size()), block.data(), block.size_bytes());
  const auto extend = [&](std::vector<UnitKey>& keys, int64_t end, const char* kind) {
    const int64_t before = static_cast<int64_t>(keys.size());
    make_room(keys, end - before);
    for (int64_t u = before; u < end; ++u) keys.push_back(hash(chain_, u, kind, 4));
    return end - before;
  };
  extend(page_keys_, tokens() / policy_.unit, "page");
  return extend(keys_, sealed_at(tokens()), "unit");
}

UnitKey History::group_key(int64_t group) const {
  const int64_t last = (group + 1) * UnitIndex::kGroup - 1;
  return hash(keys_[last], group, "group", 5);
}

int64_t History::bytes() const {
  return static_cast<int64_t>(tokens_.capacity() * sizeof(TokenId) +
                              ends_.capacity() * sizeof(int64_t) +
                              (keys_.capacity() + page_keys_.capacity()) * sizeof(UnitKey));
}

std::span<const TokenId> History::block(size_t index) const {
  const int64_t begin = index == 0 ? 0 : ends_[index - 1];
  return std::span(tokens_).subspan(begin, ends_[index] - begin);
}

int64_t History::sealed_at(int64_t processed) const {
  // Unit u's last key stands at (u + 1) * unit - 1, and the next query at `processed`.
  return std::max<int64_t>(0, (processed - policy_.window + 1) / policy_.unit);
}

}  // namespace ringtide::model

// What a context has processed: its tokens, the execution blocks they ran in, and the keys of the
// units that follow from them.
//
// Everything else of a context can be computed from this. Live contexts extend it block by block; a
// restored one is made by feeding it the same blocks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/policy_config.h"
#include "model/types.h"
#include "model/unit_store.h"

namespace ringtide::model {

class History {
 public:
  // `fingerprint` names everything else that the bytes of a unit depend on: weights, KV type, ...
  History(const PolicyConfig& policy, const std::string& fingerprint);

  // Of tokens that have run in blocks of these lengths. Throws ModelError where the lengths do not
  // sum to the tokens.
  static History of(const PolicyConfig& policy, const std::string& fingerprint,
                    std::span<const TokenId> tokens, std::span<const int32_t> block_lengths);

  // A block has run. Returns how many units are sealed by it: those whose last token has left the
  // window of the next query.
  int64_t add(std::span<const TokenId> block);

  const PolicyConfig& policy() const { return policy_; }
  int64_t tokens() const { return static_cast<int64_t>(tokens_.size()); }
  const std::vector<TokenId>& all_tokens() const { return tokens_; }
  // Where each block ends, in tokens; ascending.
  const std::vector<int64_t>& block_ends() const { return ends_; }
  std::span<const TokenId> block(size_t index) const;
  // Keys of the sealed units, by number: of what is final when the page has left the window.
  const std::vector<UnitKey>& keys() const { return keys_; }
  // Keys of the full pages, by number: of what is final when the block has run that fills the page,
  // its keys and values first of all.
  const std::vector<UnitKey>& page_keys() const { return page_keys_; }
  // Key of a full group of the index, derived from its last unit's. REQUIRES: that unit is sealed.
  UnitKey group_key(int64_t group) const;
  int64_t bytes() const;  // that it holds in memory
  // Units sealed when `processed` tokens had run.
  int64_t sealed_at(int64_t processed) const;

 private:
  PolicyConfig policy_;
  UnitKey chain_;
  std::vector<TokenId> tokens_;
  std::vector<int64_t> ends_;
  std::vector<UnitKey> keys_, page_keys_;
};

}  // namespace ringtide::model

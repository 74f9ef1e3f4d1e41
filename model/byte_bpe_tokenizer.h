// Byte-level BPE (Radford et al. 2019), "gpt2" in model files.
//
// A byte for which the vocabulary has no token cannot be written: it becomes U+FFFD, like any other
// character that gets lost.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/merge_table.h"
#include "model/pre_tokenizer.h"
#include "model/tokenizer.h"
#include "model/tokenizer_tables.h"

namespace ringtide::model {

class ByteBpeTokenizer final : public Tokenizer {
 public:
  explicit ByteBpeTokenizer(const TokenizerTables& tables);
  ~ByteBpeTokenizer() override;

  std::vector<TokenId> encode(std::string_view text) const override;
  Stable encode_stable(std::string_view text) const override;
  std::string_view bytes(TokenId token) const override;
  std::string_view name(TokenId token) const override;
  TokenId special(std::string_view name) const override;
  int32_t size() const override { return static_cast<int32_t>(ends_.size()); }
  TokenId bos() const override { return bos_; }
  TokenId eos() const override { return eos_; }
  bool adds_bos() const override { return adds_bos_; }
  bool ends_generation(TokenId token) const override;

 private:
  struct Workspace;
  class Lease;

  void read_tokens(const TokenizerTables& tables);
  void read_bytes();
  void read_merges(const TokenizerTables& tables);
  size_t encode(std::string_view text, bool more, std::vector<TokenId>& out) const;
  void encode_piece(std::string_view piece, Workspace& workspace, std::vector<TokenId>& out) const;
  void merge_piece(std::string_view piece, Workspace& workspace) const;

  // Constant after construction.
  PreTokenizer pre_;
  MergeTable merges_;
  std::string text_;                                     // the bytes of all tokens
  std::vector<uint32_t> ends_;                           // by id, where its bytes end in text_
  std::unordered_map<std::string_view, TokenId> whole_;  // where whole tokens come first
  std::unordered_map<TokenId, std::string> names_;       // special ones
  std::map<std::string, TokenId, std::less<>> special_;  // by name
  std::array<std::vector<TokenId>, 256> spelling_;       // one token, or U+FFFD's
  std::vector<TokenId> generation_ends_;                 // sorted
  TokenId bos_ = -1, eos_ = -1;
  bool adds_bos_ = false;

  // As many as threads ever encoded at the same time.
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;  // guarded by mutex_
};

}  // namespace ringtide::model

// Byte-level BPE (Radford et al. 2019), "gpt2" in model files.
//
// A byte for which the vocabulary has no token cannot be written: it becomes U+FFFD, like any other
// character that gets lost.
#pragma once

#include <array>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/merge_table.h"
#include "model/pre_tokenizer.h"
#include "model/vocabulary.h"
#include "model/workspace_pool.h"

namespace ringtide::model {

class ByteBpeTokenizer final : public VocabularyTokenizer {
 public:
  explicit ByteBpeTokenizer(const TokenizerTables& tables);
  ~ByteBpeTokenizer() override;

  using Tokenizer::encode;
  using Tokenizer::encode_stable;
  std::vector<TokenId> encode(std::string_view text, TextAt at) const override;
  Stable encode_stable(std::string_view text, TextAt at) const override;

 private:
  struct Workspace;

  void read_bytes();
  void read_merges(const TokenizerTables& tables);
  size_t encode(std::string_view text, bool more, std::vector<TokenId>& out) const;
  const std::vector<TokenId>& merge_piece(std::string_view piece, Workspace& workspace) const;

  // Constant after construction.
  PreTokenizer pre_;
  MergeTable merges_;
  std::unordered_map<std::string_view, TokenId> whole_;  // where whole tokens come first
  std::array<std::vector<TokenId>, 256> spelling_;       // one token, or U+FFFD's

  mutable WorkspacePool<Workspace> workspaces_;
};

}  // namespace ringtide::model

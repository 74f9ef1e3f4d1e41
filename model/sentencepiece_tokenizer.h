// SentencePiece's BPE (Kudo and Richardson 2018) with byte fallback, "llama" in model files.
//
// A text is characters; of all neighbours that a token is spelled by, those of the token with the
// highest score become it (or of the merge with the lowest rank, where a file lists merges), the
// leftmost of equals, until none are left. A character without a token is written as its bytes,
// and so is each byte that is no character. A space is a letter like others, U+2581 in the file's
// spelling; that character itself is written as bytes, so that it does not come back as a space.
//
// Merging knows no words, but no token spans two characters that no token has side by side. There a
// text divides into segments that do not depend on each other, so the tail of a stream is one
// segment: a word, or for scripts without spaces less. Where a segment exceeds kMaxSegment bytes it
// ends, as if the text did; from there on the tokens may differ from the reference's.
//
// "User defined" tokens (Gemma's blank lines and HTML tags) are matched in the text first, longest
// first, and merge with nothing. Those that look like orders ("<|im_end|>") are not matched.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/merge_table.h"
#include "model/vocabulary.h"
#include "model/workspace_pool.h"

namespace ringtide::model {

class SentencePieceTokenizer final : public VocabularyTokenizer {
 public:
  static constexpr size_t kMaxSegment = 3072;  // bytes
  static constexpr size_t kMaxMatched = 1024;  // bytes of a user defined token

  explicit SentencePieceTokenizer(const TokenizerTables& tables);
  ~SentencePieceTokenizer() override;

  using Tokenizer::encode;
  using Tokenizer::encode_stable;
  std::vector<TokenId> encode(std::string_view text, TextAt at) const override;
  Stable encode_stable(std::string_view text, TextAt at) const override;
  bool space_prefix() const override { return prefix_ != SpacePrefix::Never; }

 private:
  struct Workspace;

  // A character that tokens have: the token it is, or size() + where it is in spelled_.
  using Symbol = TokenId;

  void read_bytes();
  void read_characters();
  void read_scores(const TokenizerTables& tables);
  void read_merges(const TokenizerTables& tables);
  void read_matched();

  Symbol symbol_of(std::string_view character) const;  // -1: no token has it
  bool joined(Symbol left, Symbol right) const;
  bool puts_space(std::string_view text, TextAt at) const;
  size_t encode(std::string_view text, bool more, std::vector<TokenId>& out) const;
  void add_bytes(std::string_view bytes, std::vector<TokenId>& out) const;
  const std::vector<TokenId>& merge_segment(Workspace& workspace) const;

  // Constant after construction.
  SpacePrefix prefix_;
  std::array<TokenId, 256> bytes_;
  std::array<Symbol, 128> ascii_;
  std::unordered_map<uint32_t, Symbol> characters_;  // others, by their bytes
  std::vector<std::string> spelled_;                 // characters that are no token themselves
  std::vector<bool> joined_;                         // by hash of two symbols; false: never
  MergeTable merges_{0};
  NameMatcher matched_;

  mutable WorkspacePool<Workspace> workspaces_;
};

}  // namespace ringtide::model

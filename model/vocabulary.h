// What the tokens of a vocabulary stand for: their bytes, their names, and which end a text.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "model/name_matcher.h"
#include "model/tokenizer.h"
#include "model/tokenizer_tables.h"
#include "model/types.h"

namespace ringtide::model {

// Immutable; any thread.
class Vocabulary {
 public:
  // How the tables spell the text of a normal token.
  enum class Spelling {
    ByteAlphabet,  // model/byte_alphabet.h
    SpaceMark,     // U+2581 is a space
  };

  // Copies what it keeps. Throws ModelError that names the table.
  Vocabulary(const TokenizerTables& tables, Spelling spelling);

  // As in Tokenizer.
  std::string_view bytes(TokenId token) const;
  std::string_view name(TokenId token) const;
  TokenId special(std::string_view name) const;
  TokenId special_at(std::string_view text) const { return specials_.match(text).id; }
  int32_t size() const { return static_cast<int32_t>(kinds_.size()); }
  TokenId bos() const { return bos_; }
  TokenId eos() const { return eos_; }
  bool adds_bos() const { return adds_bos_; }
  bool ends_generation(TokenId token) const;

  // REQUIRES: 0 <= token < size().
  TokenKind kind(TokenId token) const { return kinds_[token]; }

 private:
  void check_ids(const TokenizerTables& tables) const;
  void read_token(const TokenizerTables& tables, TokenId id, Spelling spelling);

  std::vector<TokenKind> kinds_;                         // by id
  std::string text_;                                     // the bytes of all tokens
  std::vector<uint32_t> ends_;                           // by id, where its bytes end in text_
  std::unordered_map<TokenId, std::string> names_;       // special ones
  std::map<std::string, TokenId, std::less<>> special_;  // by name
  NameMatcher specials_;
  std::vector<TokenId> generation_ends_;  // sorted
  TokenId bos_ = -1, eos_ = -1;
  bool adds_bos_ = false;
};

// A token as a message may show it: its id and what of its text fits.
std::string shown(TokenId id, std::string_view text);

// The byte of a token named "<0x0A>"; -1: the name is none of these.
int byte_named(std::string_view name);

// A tokenizer of which all that is left to say is how it encodes.
class VocabularyTokenizer : public Tokenizer {
 public:
  using Tokenizer::encode;
  using Tokenizer::encode_stable;
  std::string_view bytes(TokenId token) const final { return vocabulary_.bytes(token); }
  std::string_view name(TokenId token) const final { return vocabulary_.name(token); }
  TokenId special(std::string_view name) const final { return vocabulary_.special(name); }
  TokenId special_at(std::string_view text) const final { return vocabulary_.special_at(text); }
  int32_t size() const final { return vocabulary_.size(); }
  TokenId bos() const final { return vocabulary_.bos(); }
  TokenId eos() const final { return vocabulary_.eos(); }
  bool adds_bos() const final { return vocabulary_.adds_bos(); }
  bool ends_generation(TokenId token) const final { return vocabulary_.ends_generation(token); }

 protected:
  explicit VocabularyTokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}
  const Vocabulary vocabulary_;
};

}  // namespace ringtide::model

#include "model/byte_bpe_tokenizer.h"

#include <memory>
#include <string>

#include "model/piece_cache.h"

namespace ringtide::model {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

// What one encoding works with.
struct ByteBpeTokenizer::Workspace {
  explicit Workspace(const PreTokenizer& tokenizer) : pre(tokenizer.scratch()) {}
  PreTokenizer::ScratchPtr pre;
  MergeTable::Scratch merge;
  std::vector<TokenId> tokens;  // of the piece at hand
  PieceCache cache;
};

ByteBpeTokenizer::ByteBpeTokenizer(const TokenizerTables& tables)
    : VocabularyTokenizer(Vocabulary(tables, Vocabulary::Spelling::ByteAlphabet)),
      pre_(tables.pre),
      merges_(tables.merges.size()) {
  read_bytes();
  read_merges(tables);
  if (!tables.whole_tokens_first.value_or(pre_.whole_tokens_first())) return;
  for (TokenId id = 0; id < size(); ++id) {
    if (name(id).empty()) whole_.emplace(bytes(id), id);
  }
}

ByteBpeTokenizer::~ByteBpeTokenizer() = default;

void ByteBpeTokenizer::read_bytes() {
  for (TokenId id = 0; id < size(); ++id) {
    if (bytes(id).size() != 1 || !name(id).empty()) continue;
    std::vector<TokenId>& spelling = spelling_[static_cast<uint8_t>(bytes(id)[0])];
    if (spelling.empty()) spelling = {id};
  }
  std::vector<TokenId> replacement;
  for (const char c : kReplacement) {
    const auto& spelling = spelling_[static_cast<uint8_t>(c)];
    replacement.insert(replacement.end(), spelling.begin(), spelling.end());
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (!spelling_[byte].empty()) continue;
    if (replacement.size() != kReplacement.size()) {
      throw ModelError(
          "tokenizer.ggml.tokens: no token for the byte " + std::to_string(byte) +
          ", nor the three of U+FFFD to stand for it; this is no byte-level vocabulary");
    }
    spelling_[byte] = replacement;
  }
}

void ByteBpeTokenizer::read_merges(const TokenizerTables& tables) {
  std::unordered_map<std::string_view, TokenId> ids;
  ids.reserve(tables.tokens.size());
  for (size_t i = 0; i < tables.tokens.size(); ++i) {
    const auto [first, added] = ids.emplace(tables.tokens[i], static_cast<TokenId>(i));
    if (!added) {
      throw ModelError("tokenizer.ggml.tokens: token " +
                       shown(static_cast<TokenId>(i), first->first) + " is there twice, first as " +
                       std::to_string(first->second));
    }
  }
  for (size_t i = 0; i < tables.merges.size(); ++i) {
    const auto rank = static_cast<int32_t>(i);
    const Merge merge = find_merge(tables.merges[i], rank, ids);
    if (!name(merge.merged).empty()) {
      throw ModelError("tokenizer.ggml.merges: entry " + shown(rank, tables.merges[i]) +
                       " would make a special token from plain text");
    }
    merges_.add(rank, merge.left, merge.right, merge.merged);
  }
}

std::vector<TokenId> ByteBpeTokenizer::encode(std::string_view text, TextAt) const {
  std::vector<TokenId> tokens;
  encode(text, false, tokens);
  return tokens;
}

Tokenizer::Stable ByteBpeTokenizer::encode_stable(std::string_view text, TextAt) const {
  Stable stable;
  stable.bytes = encode(text, true, stable.tokens);
  return stable;
}

size_t ByteBpeTokenizer::encode(std::string_view text, bool more, std::vector<TokenId>& out) const {
  WorkspacePool<Workspace>::Lease lease(workspaces_,
                                        [&] { return std::make_unique<Workspace>(pre_); });
  Workspace& workspace = *lease;
  PreTokenizer::Walk walk(pre_, *workspace.pre, text, more);
  for (std::string_view piece = walk.next(); !piece.empty(); piece = walk.next()) {
    workspace.cache.append(piece, out, [&](std::string_view p) -> const std::vector<TokenId>& {
      return merge_piece(p, workspace);
    });
  }
  return walk.position();
}

const std::vector<TokenId>& ByteBpeTokenizer::merge_piece(std::string_view piece,
                                                          Workspace& workspace) const {
  std::vector<TokenId>& tokens = workspace.tokens;
  tokens.clear();
  if (const auto whole = whole_.find(piece); whole != whole_.end()) {
    tokens.push_back(whole->second);
    return tokens;
  }
  for (const char c : piece) {
    const auto& spelling = spelling_[static_cast<uint8_t>(c)];
    tokens.insert(tokens.end(), spelling.begin(), spelling.end());
  }
  merges_.apply(tokens, workspace.merge);
  return tokens;
}

}  // namespace ringtide::model

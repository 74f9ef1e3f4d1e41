#include "model/sentencepiece_tokenizer.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "model/piece_cache.h"
#include "model/utf8.h"

namespace ringtide::model {
namespace {

constexpr int kJoinedBits = 22;

static_assert(SentencePieceTokenizer::kMaxSegment + SentencePieceTokenizer::kMaxMatched <
              Tokenizer::kMaxTail);

// The bytes of one character as a number.
uint32_t packed(std::string_view character) {
  uint32_t bytes = 0;
  for (const char c : character) bytes = bytes << 8 | static_cast<uint8_t>(c);
  return bytes;
}

size_t joined_place(TokenId left, TokenId right) {
  const uint64_t pair =
      static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  return static_cast<size_t>((pair * 0x9E3779B97F4A7C15u) >> (64 - kJoinedBits));
}

// Calls `act` with each character. Returns whether there are only valid ones.
template <class Act>
bool each_character(std::string_view text, const Act& act) {
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    if (step.kind != Utf8::Valid) return false;
    act(text.substr(0, step.length));
    text.remove_prefix(step.length);
  }
  return true;
}

bool looks_like_an_order(std::string_view name) {
  return (name.starts_with("<|") && name.ends_with("|>")) || name.ends_with("_of_turn>") ||
         name == "[INST]" || name == "[/INST]";
}

}  // namespace

// What one encoding works with.
struct SentencePieceTokenizer::Workspace {
  MergeTable::Scratch merge;
  std::vector<TokenId> symbols, tokens;  // of the segment at hand
  PieceCache cache;
};

SentencePieceTokenizer::SentencePieceTokenizer(const TokenizerTables& tables)
    : VocabularyTokenizer(Vocabulary(tables, Vocabulary::Spelling::SpaceMark)),
      prefix_(tables.space_prefix),
      joined_(size_t{1} << kJoinedBits) {
  read_bytes();
  read_characters();
  if (tables.scores.empty()) {
    read_merges(tables);
  } else {
    read_scores(tables);
  }
  read_matched();
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

void SentencePieceTokenizer::read_bytes() {
  bytes_.fill(-1);
  for (TokenId id = 0; id < size(); ++id) {
    if (vocabulary_.kind(id) != TokenKind::Byte) continue;
    TokenId& place = bytes_[static_cast<uint8_t>(bytes(id)[0])];
    if (place < 0) place = id;
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (bytes_[byte] >= 0) continue;
    throw ModelError("tokenizer.ggml.tokens: no token for the byte " + std::to_string(byte) +
                     "; SentencePiece vocabularies without byte fallback are not supported");
  }
}

void SentencePieceTokenizer::read_characters() {
  ascii_.fill(-1);
  const auto place = [&](std::string_view character) -> Symbol& {
    if (character.size() == 1) return ascii_[static_cast<uint8_t>(character[0])];
    return characters_.emplace(packed(character), -1).first->second;
  };
  for (TokenId id = 0; id < size(); ++id) {
    if (vocabulary_.kind(id) != TokenKind::Normal) continue;
    const std::string_view text = bytes(id);
    if (text.empty() || utf8_step(text).length != text.size()) continue;
    if (utf8_valid_prefix(text) != text.size()) continue;
    if (Symbol& symbol = place(text); symbol < 0) symbol = id;
  }
  for (TokenId id = 0; id < size(); ++id) {
    if (vocabulary_.kind(id) != TokenKind::Normal) continue;
    if (utf8_valid_prefix(bytes(id)) != bytes(id).size()) continue;
    Symbol last = -1;
    each_character(bytes(id), [&](std::string_view character) {
      Symbol& symbol = place(character);
      if (symbol < 0) {
        symbol = size() + static_cast<Symbol>(spelled_.size());
        spelled_.emplace_back(character);
      }
      if (last >= 0) joined_[joined_place(last, symbol)] = true;
      last = symbol;
    });
  }
}

// Every way in which two tokens or characters spell a third is a merge, as good as its score.
void SentencePieceTokenizer::read_scores(const TokenizerTables& tables) {
  if (tables.scores.size() != tables.tokens.size()) {
    throw ModelError("tokenizer.ggml.scores has " + std::to_string(tables.scores.size()) +
                     " entries for the " + std::to_string(tables.tokens.size()) +
                     " of tokenizer.ggml.tokens");
  }
  std::vector<TokenId> best;  // highest score first
  std::unordered_map<std::string_view, Symbol> symbols;
  symbols.reserve(tables.tokens.size());
  for (TokenId id = 0; id < size(); ++id) {
    if (vocabulary_.kind(id) != TokenKind::Normal) continue;
    if (std::isnan(tables.scores[id])) {
      throw ModelError("tokenizer.ggml.scores: the score of token " + shown(id, tables.tokens[id]) +
                       " is not a number");
    }
    if (utf8_valid_prefix(bytes(id)) != bytes(id).size()) continue;
    if (symbols.emplace(bytes(id), id).second) best.push_back(id);
  }
  for (const std::string& character : spelled_) {
    symbols.emplace(character, symbol_of(character));
  }
  std::stable_sort(best.begin(), best.end(),
                   [&](TokenId a, TokenId b) { return tables.scores[a] > tables.scores[b]; });
  std::vector<std::pair<int32_t, Merge>> merges;
  int32_t rank = 0;
  for (size_t i = 0; i < best.size(); ++i) {
    const TokenId id = best[i];
    if (i > 0 && tables.scores[id] != tables.scores[best[i - 1]]) ++rank;
    const std::string_view text = bytes(id);
    size_t split = 0;
    each_character(text, [&](std::string_view character) {
      const size_t at = std::exchange(split, split + character.size());
      if (at == 0) return;
      const auto left = symbols.find(text.substr(0, at));
      if (left == symbols.end()) return;
      const auto right = symbols.find(text.substr(at));
      if (right == symbols.end()) return;
      merges.push_back({rank, {left->second, right->second, id}});
    });
  }
  merges_ = MergeTable(merges.size());
  for (const auto& [order, merge] : merges) {
    merges_.add(order, merge.left, merge.right, merge.merged);
  }
}

void SentencePieceTokenizer::read_merges(const TokenizerTables& tables) {
  std::unordered_map<std::string_view, TokenId> ids;
  ids.reserve(tables.tokens.size());
  for (TokenId id = 0; id < size(); ++id) {
    if (vocabulary_.kind(id) == TokenKind::Normal) ids.emplace(tables.tokens[id], id);
  }
  merges_ = MergeTable(tables.merges.size());
  for (size_t i = 0; i < tables.merges.size(); ++i) {
    const auto rank = static_cast<int32_t>(i);
    const Merge merge = find_merge(tables.merges[i], rank, ids);
    merges_.add(rank, merge.left, merge.right, merge.merged);
  }
}

void SentencePieceTokenizer::read_matched() {
  std::vector<std::pair<std::string, TokenId>> names;
  for (TokenId id = 0; id < size(); ++id) {
    if (vocabulary_.kind(id) != TokenKind::UserDefined || looks_like_an_order(name(id))) continue;
    if (name(id).size() > kMaxMatched) {
      throw ModelError("tokenizer.ggml.tokens: user defined token " + shown(id, name(id)) +
                       " has more than " + std::to_string(kMaxMatched) + " bytes");
    }
    names.emplace_back(name(id), id);
  }
  matched_ = NameMatcher(std::move(names));
}

SentencePieceTokenizer::Symbol SentencePieceTokenizer::symbol_of(std::string_view character) const {
  if (character.size() == 1) return ascii_[static_cast<uint8_t>(character[0])];
  const auto found = characters_.find(packed(character));
  return found == characters_.end() ? -1 : found->second;
}

bool SentencePieceTokenizer::joined(Symbol left, Symbol right) const {
  return joined_[joined_place(left, right)];
}

bool SentencePieceTokenizer::puts_space(std::string_view text, TextAt at) const {
  if (at != TextAt::Start || text.empty() || prefix_ == SpacePrefix::Never) return false;
  return prefix_ == SpacePrefix::Always || text[0] != ' ';
}

std::vector<TokenId> SentencePieceTokenizer::encode(std::string_view text, TextAt at) const {
  std::vector<TokenId> tokens;
  if (puts_space(text, at)) {
    encode(" " + std::string(text), false, tokens);
  } else {
    encode(text, false, tokens);
  }
  return tokens;
}

Tokenizer::Stable SentencePieceTokenizer::encode_stable(std::string_view text, TextAt at) const {
  Stable stable;
  if (!puts_space(text, at)) {
    stable.bytes = encode(text, true, stable.tokens);
    return stable;
  }
  const size_t bytes = encode(" " + std::string(text), true, stable.tokens);
  // While nothing is certain but the space that was put, the text is still at its start.
  if (bytes <= 1) return {};
  stable.bytes = bytes - 1;
  return stable;
}

// Returns how many bytes the tokens cover: all, unless `more` may follow.
size_t SentencePieceTokenizer::encode(std::string_view text, bool more,
                                      std::vector<TokenId>& out) const {
  WorkspacePool<Workspace>::Lease lease(workspaces_, [] { return std::make_unique<Workspace>(); });
  Workspace& workspace = *lease;
  size_t start = 0;  // of the segment
  std::vector<TokenId>& symbols = workspace.symbols;
  symbols.clear();
  const auto end_segment = [&](size_t end) {
    if (end == start) return;
    workspace.cache.append(
        text.substr(start, end - start), out,
        [&](std::string_view) -> const std::vector<TokenId>& { return merge_segment(workspace); });
    symbols.clear();
    start = end;
  };
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    const NameMatcher::Match match = matched_.match(rest);
    if (match.open && more) return start;
    if (match.id >= 0) {
      end_segment(at);
      out.push_back(match.id);
      start = at += match.length;
      continue;
    }
    const Utf8Step step = utf8_step(rest);
    if (step.kind == Utf8::Incomplete && more) return start;
    const Symbol symbol = step.kind == Utf8::Valid ? symbol_of(rest.substr(0, step.length)) : -1;
    if (symbol < 0) {
      end_segment(at);
      add_bytes(rest.substr(0, step.length), out);
      start = at += step.length;
      continue;
    }
    if ((!symbols.empty() && !joined(symbols.back(), symbol)) ||
        at + step.length - start > kMaxSegment) {
      end_segment(at);
    }
    symbols.push_back(symbol);
    at += step.length;
  }
  if (more) return start;
  end_segment(text.size());
  return text.size();
}

void SentencePieceTokenizer::add_bytes(std::string_view bytes, std::vector<TokenId>& out) const {
  for (const char c : bytes) out.push_back(bytes_[static_cast<uint8_t>(c)]);
}

// The tokens of the segment whose symbols are at hand.
const std::vector<TokenId>& SentencePieceTokenizer::merge_segment(Workspace& workspace) const {
  std::vector<TokenId>& tokens = workspace.tokens;
  merges_.apply(workspace.symbols, workspace.merge);
  tokens.clear();
  for (const Symbol symbol : workspace.symbols) {
    if (symbol < size()) {
      tokens.push_back(symbol);
    } else {
      add_bytes(spelled_[symbol - size()], tokens);
    }
  }
  return tokens;
}

}  // namespace ringtide::model

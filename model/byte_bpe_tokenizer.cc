#include "model/byte_bpe_tokenizer.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <utility>

#include "model/byte_alphabet.h"

namespace ringtide::model {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Control tokens that end a turn or a text, in the model families that use them.
constexpr std::string_view kEndNames[] = {
    "</s>",    "<end_of_turn>", "<eos>",      "<|end_of_text|>", "<|endoftext|>",
    "<|end|>", "<|eom_id|>",    "<|eot_id|>", "<|im_end|>",
};

std::string shown(TokenId id, std::string_view text) {
  constexpr size_t kLongest = 40;
  std::string out = std::to_string(id) + " \"";
  for (const char c : text.substr(0, kLongest)) {
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  }
  return out + (text.size() > kLongest ? "...\"" : "\"");
}

// "<0x0A>": the byte 10.
std::optional<char> byte_named(std::string_view name) {
  if (name.size() != 6 || name.substr(0, 3) != "<0x" || name[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : name.substr(3, 2)) {
    const size_t digit = std::string_view("0123456789ABCDEF").find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    value = value * 16 + static_cast<int>(digit);
  }
  return static_cast<char>(value);
}

// Tokens of short pieces seen lately: most words of a text. A piece has one place, where the latest
// stays.
class PieceCache {
 public:
  struct Entry {
    uint8_t length = 0;  // 0: free
    uint8_t count = 0;
    std::array<char, 22> piece;
    std::array<TokenId, 6> tokens;
  };

  Entry& place(std::string_view piece) {
    return entries_[std::hash<std::string_view>()(piece) % kEntries];
  }
  static bool holds(const Entry& entry, std::string_view piece) {
    return entry.length == piece.size() &&
           std::memcmp(entry.piece.data(), piece.data(), piece.size()) == 0;
  }
  static void put(Entry& entry, std::string_view piece, const std::vector<TokenId>& tokens) {
    if (piece.size() > entry.piece.size() || tokens.size() > entry.tokens.size()) return;
    entry.length = static_cast<uint8_t>(piece.size());
    entry.count = static_cast<uint8_t>(tokens.size());
    std::copy(piece.begin(), piece.end(), entry.piece.begin());
    std::copy(tokens.begin(), tokens.end(), entry.tokens.begin());
  }

 private:
  static constexpr size_t kEntries = 1 << 14;
  std::vector<Entry> entries_ = std::vector<Entry>(kEntries);
};

}  // namespace

// What one encoding works with.
struct ByteBpeTokenizer::Workspace {
  explicit Workspace(const PreTokenizer& tokenizer) : pre(tokenizer.scratch()) {}
  PreTokenizer::ScratchPtr pre;
  MergeTable::Scratch merge;
  std::vector<TokenId> tokens;  // of the piece at hand
  PieceCache cache;
};

class ByteBpeTokenizer::Lease {
 public:
  explicit Lease(const ByteBpeTokenizer& owner) : owner_(owner) {
    {
      std::lock_guard lock(owner_.mutex_);
      if (!owner_.idle_.empty()) {
        workspace_ = std::move(owner_.idle_.back());
        owner_.idle_.pop_back();
        return;
      }
    }
    workspace_ = std::make_unique<Workspace>(owner_.pre_);
  }
  ~Lease() {
    std::lock_guard lock(owner_.mutex_);
    owner_.idle_.push_back(std::move(workspace_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  Workspace& operator*() { return *workspace_; }

 private:
  const ByteBpeTokenizer& owner_;
  std::unique_ptr<Workspace> workspace_;
};

ByteBpeTokenizer::ByteBpeTokenizer(const TokenizerTables& tables)
    : pre_(tables.pre),
      merges_(tables.merges.size()),
      bos_(tables.bos),
      eos_(tables.eos),
      adds_bos_(tables.adds_bos) {
  const auto count = static_cast<int64_t>(tables.tokens.size());
  const auto check = [&](const char* key, TokenId id) {
    if (id < -1 || id >= count) {
      throw ModelError(std::string(key) + " is " + std::to_string(id) + ", but there are " +
                       std::to_string(count) + " tokens");
    }
  };
  if (count == 0) throw ModelError("tokenizer.ggml.tokens is empty");
  if (!tables.kinds.empty() && tables.kinds.size() != tables.tokens.size()) {
    throw ModelError("tokenizer.ggml.token_type has " + std::to_string(tables.kinds.size()) +
                     " entries for the " + std::to_string(count) + " of tokenizer.ggml.tokens");
  }
  check("tokenizer.ggml.bos_token_id", bos_);
  check("tokenizer.ggml.eos_token_id", eos_);
  for (const TokenId id : tables.ends) check("tokenizer.ggml.eot_token_id", id);
  if (adds_bos_ && bos_ < 0) {
    throw ModelError(
        "tokenizer.ggml.add_bos_token is true, but there is no "
        "tokenizer.ggml.bos_token_id");
  }
  read_tokens(tables);
  read_bytes();
  read_merges(tables);

  generation_ends_ = tables.ends;
  generation_ends_.push_back(eos_);
  for (const std::string_view end : kEndNames) {
    if (bytes(special(end)).empty()) generation_ends_.push_back(special(end));
  }
  std::erase(generation_ends_, -1);
  std::sort(generation_ends_.begin(), generation_ends_.end());
}

ByteBpeTokenizer::~ByteBpeTokenizer() = default;

void ByteBpeTokenizer::read_tokens(const TokenizerTables& tables) {
  const ByteAlphabet alphabet;
  ends_.reserve(tables.tokens.size());
  for (size_t i = 0; i < tables.tokens.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string_view token = tables.tokens[i];
    TokenKind kind = tables.kinds.empty() ? TokenKind::Normal : TokenKind{tables.kinds[i]};
    if (tables.kinds.empty() && (id == bos_ || id == eos_)) kind = TokenKind::Control;
    switch (kind) {
      case TokenKind::Normal:
        text_ += alphabet.decode(token);
        break;
      case TokenKind::UserDefined:
        text_ += token;
        [[fallthrough]];
      case TokenKind::Control:
      case TokenKind::Unknown:
      case TokenKind::Unused:
        names_.emplace(id, token);
        special_.emplace(token, id);
        break;
      case TokenKind::Byte: {
        const std::optional<char> byte = byte_named(token);
        if (!byte) {
          throw ModelError("tokenizer.ggml.tokens: token " + shown(id, token) +
                           " has the type of a byte, but not a byte's name");
        }
        text_ += *byte;
        break;
      }
      default:
        throw ModelError("tokenizer.ggml.token_type: token " + shown(id, token) + " has type " +
                         std::to_string(tables.kinds[i]) + "; types are 1 to 6");
    }
    if (text_.size() > std::numeric_limits<uint32_t>::max()) {
      throw ModelError("tokenizer.ggml.tokens: the tokens have more than 4 GiB of text");
    }
    ends_.push_back(static_cast<uint32_t>(text_.size()));
  }
  if (!pre_.whole_tokens_first()) return;
  for (TokenId id = 0; id < size(); ++id) {
    if (!names_.contains(id)) whole_.emplace(bytes(id), id);
  }
}

void ByteBpeTokenizer::read_bytes() {
  for (TokenId id = 0; id < size(); ++id) {
    if (bytes(id).size() != 1 || names_.contains(id)) continue;
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
  std::string joined;
  for (size_t rank = 0; rank < tables.merges.size(); ++rank) {
    const std::string_view merge = tables.merges[rank];
    const auto fail = [&](const std::string& what) {
      throw ModelError("tokenizer.ggml.merges: entry " + shown(static_cast<TokenId>(rank), merge) +
                       " " + what);
    };
    // A space is never spelled as itself, so the first one past the first letter divides.
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == merge.size()) fail("is not two tokens");
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    joined.assign(left).append(right);
    TokenId id[3];
    const std::string_view parts[3] = {left, right, joined};
    for (int i = 0; i < 3; ++i) {
      const auto found = ids.find(parts[i]);
      if (found == ids.end()) fail("needs \"" + std::string(parts[i]) + "\", which is no token");
      id[i] = found->second;
    }
    if (names_.contains(id[2])) fail("would make a special token from plain text");
    merges_.add(id[0], id[1], id[2]);
  }
}

std::string_view ByteBpeTokenizer::bytes(TokenId token) const {
  if (token < 0 || token >= size()) return {};
  const uint32_t start = token == 0 ? 0 : ends_[token - 1];
  return std::string_view(text_).substr(start, ends_[token] - start);
}

std::string_view ByteBpeTokenizer::name(TokenId token) const {
  const auto found = names_.find(token);
  return found == names_.end() ? std::string_view() : found->second;
}

TokenId ByteBpeTokenizer::special(std::string_view name) const {
  const auto found = special_.find(name);
  return found == special_.end() ? -1 : found->second;
}

bool ByteBpeTokenizer::ends_generation(TokenId token) const {
  return std::binary_search(generation_ends_.begin(), generation_ends_.end(), token);
}

std::vector<TokenId> ByteBpeTokenizer::encode(std::string_view text) const {
  std::vector<TokenId> tokens;
  encode(text, false, tokens);
  return tokens;
}

Tokenizer::Stable ByteBpeTokenizer::encode_stable(std::string_view text) const {
  Stable stable;
  stable.bytes = encode(text, true, stable.tokens);
  return stable;
}

size_t ByteBpeTokenizer::encode(std::string_view text, bool more, std::vector<TokenId>& out) const {
  Lease workspace(*this);
  PreTokenizer::Walk walk(pre_, *(*workspace).pre, text, more);
  for (std::string_view piece = walk.next(); !piece.empty(); piece = walk.next()) {
    encode_piece(piece, *workspace, out);
  }
  return walk.position();
}

void ByteBpeTokenizer::encode_piece(std::string_view piece, Workspace& workspace,
                                    std::vector<TokenId>& out) const {
  PieceCache::Entry& entry = workspace.cache.place(piece);
  if (PieceCache::holds(entry, piece)) {
    out.insert(out.end(), entry.tokens.begin(), entry.tokens.begin() + entry.count);
    return;
  }
  merge_piece(piece, workspace);
  PieceCache::put(entry, piece, workspace.tokens);
  out.insert(out.end(), workspace.tokens.begin(), workspace.tokens.end());
}

void ByteBpeTokenizer::merge_piece(std::string_view piece, Workspace& workspace) const {
  std::vector<TokenId>& tokens = workspace.tokens;
  tokens.clear();
  if (const auto whole = whole_.find(piece); whole != whole_.end()) {
    tokens.push_back(whole->second);
    return;
  }
  for (const char c : piece) {
    const auto& spelling = spelling_[static_cast<uint8_t>(c)];
    tokens.insert(tokens.end(), spelling.begin(), spelling.end());
  }
  merges_.apply(tokens, workspace.merge);
}

}  // namespace ringtide::model

#include "model/vocabulary.h"

#include <algorithm>
#include <limits>

#include "model/byte_alphabet.h"

namespace ringtide::model {
namespace {

// Control tokens that end a turn or a text, in the model families that use them.
constexpr std::string_view kEndNames[] = {
    "</s>",    "<end_of_turn>", "<eos>",      "<|end_of_text|>", "<|endoftext|>",
    "<|end|>", "<|eom_id|>",    "<|eot_id|>", "<|im_end|>",
};

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

std::string spaces_unmarked(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const bool mark = text.substr(at, kSpaceMark.size()) == kSpaceMark;
    out += mark ? ' ' : text[at];
    at += mark ? kSpaceMark.size() : 1;
  }
  return out;
}

}  // namespace

std::string shown(TokenId id, std::string_view text) {
  constexpr size_t kLongest = 40;
  std::string out = std::to_string(id) + " \"";
  for (const char c : text.substr(0, kLongest)) {
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  }
  return out + (text.size() > kLongest ? "...\"" : "\"");
}

int byte_named(std::string_view name) {
  if (name.size() != 6 || name.substr(0, 3) != "<0x" || name[5] != '>') return -1;
  int value = 0;
  for (const char c : name.substr(3, 2)) {
    const size_t digit = std::string_view("0123456789ABCDEF").find(c);
    if (digit == std::string_view::npos) return -1;
    value = value * 16 + static_cast<int>(digit);
  }
  return value;
}

Vocabulary::Vocabulary(const TokenizerTables& tables, Spelling spelling)
    : bos_(tables.bos), eos_(tables.eos), adds_bos_(tables.adds_bos) {
  check_ids(tables);
  kinds_.reserve(tables.tokens.size());
  ends_.reserve(tables.tokens.size());
  for (size_t i = 0; i < tables.tokens.size(); ++i) {
    read_token(tables, static_cast<TokenId>(i), spelling);
  }
  specials_ = NameMatcher({special_.begin(), special_.end()});

  generation_ends_ = tables.ends;
  generation_ends_.push_back(eos_);
  for (const std::string_view end : kEndNames) {
    if (bytes(special(end)).empty()) generation_ends_.push_back(special(end));
  }
  std::erase(generation_ends_, -1);
  std::sort(generation_ends_.begin(), generation_ends_.end());
}

void Vocabulary::check_ids(const TokenizerTables& tables) const {
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
}

void Vocabulary::read_token(const TokenizerTables& tables, TokenId id, Spelling spelling) {
  static const ByteAlphabet alphabet;
  const std::string_view token = tables.tokens[id];
  TokenKind kind = tables.kinds.empty() ? TokenKind::Normal : TokenKind{tables.kinds[id]};
  if (tables.kinds.empty() && (id == bos_ || id == eos_)) kind = TokenKind::Control;
  switch (kind) {
    case TokenKind::Normal:
      text_ += spelling == Spelling::ByteAlphabet ? alphabet.decode(token) : spaces_unmarked(token);
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
      const int byte = byte_named(token);
      if (byte < 0) {
        throw ModelError("tokenizer.ggml.tokens: token " + shown(id, token) +
                         " has the type of a byte, but not a byte's name");
      }
      text_ += static_cast<char>(byte);
      break;
    }
    default:
      throw ModelError("tokenizer.ggml.token_type: token " + shown(id, token) + " has type " +
                       std::to_string(tables.kinds[id]) + "; types are 1 to 6");
  }
  if (text_.size() > std::numeric_limits<uint32_t>::max()) {
    throw ModelError("tokenizer.ggml.tokens: the tokens have more than 4 GiB of text");
  }
  kinds_.push_back(kind);
  ends_.push_back(static_cast<uint32_t>(text_.size()));
}

std::string_view Vocabulary::bytes(TokenId token) const {
  if (token < 0 || token >= size()) return {};
  const uint32_t start = token == 0 ? 0 : ends_[token - 1];
  return std::string_view(text_).substr(start, ends_[token] - start);
}

std::string_view Vocabulary::name(TokenId token) const {
  const auto found = names_.find(token);
  return found == names_.end() ? std::string_view() : found->second;
}

TokenId Vocabulary::special(std::string_view name) const {
  const auto found = special_.find(name);
  return found == special_.end() ? -1 : found->second;
}

bool Vocabulary::ends_generation(TokenId token) const {
  return std::binary_search(generation_ends_.begin(), generation_ends_.end(), token);
}

}  // namespace ringtide::model

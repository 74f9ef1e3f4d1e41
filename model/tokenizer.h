// Text to tokens and back, from the tables of a model file.
//
// Immutable after construction; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/types.h"

namespace ringtide::model {

class GgufFile;  // model/gguf.h

// Where a text stands. Some tokenizers mark the first letter of a word with the space before it;
// they put a space before a text that has none to mark.
enum class TextAt : bool {
  Start,   // of a sequence, or right after a special token
  Inside,  // it goes on after other text
};

class Tokenizer {
 public:
  // Throws ModelError that names the key: tables missing or inconsistent, or a tokenizer or
  // pre-tokenizer that is not supported (with the list of those that are).
  static std::shared_ptr<const Tokenizer> from_gguf(const GgufFile& file);
  virtual ~Tokenizer() = default;

  // Tokens of a text in which nothing is special: "<|im_end|>" is eleven characters, not an order.
  // Invalid UTF-8 is tokenised byte by byte and survives the round trip. A byte that the vocabulary
  // has no token for becomes U+FFFD.
  virtual std::vector<TokenId> encode(std::string_view text, TextAt at) const = 0;
  std::vector<TokenId> encode(std::string_view text) const { return encode(text, TextAt::Start); }

  // The tokens that are certain whatever text follows, and how many bytes they cover. The rest is
  // the tail the caller keeps and passes again with what follows, Inside once any bytes were
  // covered. Concatenating the results over any cutting of a text, and encode() of the last tail,
  // gives encode(text). The tail has less than kMaxTail bytes.
  static constexpr size_t kMaxTail = 4096 + 4;
  struct Stable {
    std::vector<TokenId> tokens;
    size_t bytes = 0;
  };
  virtual Stable encode_stable(std::string_view text, TextAt at) const = 0;
  Stable encode_stable(std::string_view text) const { return encode_stable(text, TextAt::Start); }

  // Whether encode() of a text at a Start puts a space before it, which its first token then has.
  virtual bool space_prefix() const { return false; }

  // Bytes of a token; empty for special ones, and for ids outside the vocabulary. Those of a file's
  // "user defined" tokens are their names, though a text becomes one only where a SentencePiece
  // vocabulary has it for layout (blank lines, HTML tags).
  virtual std::string_view bytes(TokenId token) const = 0;
  // The name of a special token, as "<|im_end|>", or empty; its id by name, or -1.
  virtual std::string_view name(TokenId token) const = 0;
  virtual TokenId special(std::string_view name) const = 0;
  // The special token with the longest name that `text` starts with; -1: none.
  virtual TokenId special_at(std::string_view text) const = 0;

  virtual int32_t size() const = 0;
  virtual TokenId bos() const = 0;                        // -1: none
  virtual TokenId eos() const { return -1; }              // -1: none
  virtual bool adds_bos() const = 0;                      // a sequence starts with bos
  virtual bool ends_generation(TokenId token) const = 0;  // eos, end of turn
};

// Turns tokens into text that can be shown at once: a character whose bytes are spread over tokens
// comes out whole, when its last byte is there.
class Detokenizer {
 public:
  // At a Start, the space that the tokenizer puts before a text is not shown.
  explicit Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, TextAt at = TextAt::Inside);
  std::string push(TokenId token);
  // What is held, when no token follows; incomplete characters become U+FFFD.
  std::string finish();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool space_prefix_;  // to come
  std::string held_;
};

}  // namespace ringtide::model

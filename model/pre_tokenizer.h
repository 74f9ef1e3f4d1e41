// The pieces of a text: byte-level BPE merges within a piece, never across two.
//
// The pieces are those of the regular expression that the model was trained with, plus two rules
// that make any bytes of any length work:
//   - A byte that is not part of a valid UTF-8 character is a piece of its own, and what stands on
//     both sides of it is split as if the text ended there and began anew.
//   - The expression sees at most kMaxPiece bytes from where a piece starts (whole characters
//   only),
//     as if the text ended there.
// A piece is therefore a function of the bytes from its start on, at most kMaxPiece of them and
// what tells that the last is a character; neither what stands before nor how the text arrived
// matters.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ringtide::model {

// Immutable after construction; any thread, with a scratch each.
class PreTokenizer {
 public:
  static constexpr size_t kMaxPiece = 4096;

  // What matching works with; not shared by threads that run at the same time.
  class Scratch;
  struct ScratchDeleter {
    void operator()(Scratch* scratch) const;
  };
  using ScratchPtr = std::unique_ptr<Scratch, ScratchDeleter>;

  // By the name in `tokenizer.ggml.pre`. Throws ModelError: not one of names().
  explicit PreTokenizer(std::string_view name);
  ~PreTokenizer();
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;

  static std::vector<std::string> names();
  // The name of the one whose models' tokenizer.json has this expression; empty: of none.
  static std::string_view name_of(std::string_view published);
  // In its models, a piece that is a token of the vocabulary is that token, whatever the merges
  // would make of it.
  bool whole_tokens_first() const;

  ScratchPtr scratch() const;

  // Walks the pieces of one text.
  class Walk {
   public:
    // `more`: the text may go on after its end, and only pieces that are certain are wanted.
    Walk(const PreTokenizer& pre, Scratch& scratch, std::string_view text, bool more)
        : pre_(pre), scratch_(scratch), text_(text), more_(more) {}
    // The next piece; empty at the end of the text, or where the rest is not certain yet.
    std::string_view next();
    // Bytes of the pieces so far.
    size_t position() const { return at_; }

   private:
    bool find_valid_end();

    const PreTokenizer& pre_;
    Scratch& scratch_;
    std::string_view text_;
    const bool more_;
    size_t at_ = 0;
    size_t valid_end_ = 0;    // [at_, valid_end_) is valid UTF-8
    bool may_go_on_ = false;  // what follows after valid_end_ is not known
  };

 private:
  struct Code;
  // Bytes that the expression matches at the start of `subject`; 0: `more`, and it depends on what
  // follows. REQUIRES: subject is valid UTF-8, not empty.
  size_t match(Scratch& scratch, std::string_view subject, bool more) const;

  std::unique_ptr<Code> code_;
};

}  // namespace ringtide::model

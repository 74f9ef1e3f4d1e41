#include "model/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <new>

#include "model/types.h"
#include "model/utf8.h"

namespace ringtide::model {
namespace {

// Unicode's White_Space, spelled out: \s of this library also takes U+180E, which the expressions
// were not trained with.
#define WS \
  R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})"

// Each expression matches at every character, so it is anchored and its matches lie end to end.
// Sources: GPT-2's encoder; tiktoken's for Llama 3; the tokenizer.json of Qwen2, SmolLM and Mistral
// Nemo.
constexpr const char* kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" WS
                              R"(\p{L}\p{N}]+|[)" WS R"(]+(?![^)" WS R"(])|[)" WS R"(]+)";

// Digits stand alone and are split off first: to GPT-2's expression, which runs on what is left,
// the text ends before a digit.
constexpr const char* kSmolLm = R"(\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^)" WS
                                R"(\p{L}\p{N}]+|[)" WS R"(]+(?![^)" WS R"(\p{N}])|[)" WS R"(]+)";

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^)" WS
    R"(\p{L}\p{N}]+[\r\n]*|[)" WS R"(]*[\r\n]+|[)" WS R"(]+(?![^)" WS R"(])|[)" WS R"(]+)";

constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^)" WS
    R"(\p{L}\p{N}]+[\r\n]*|[)" WS R"(]*[\r\n]+|[)" WS R"(]+(?![^)" WS R"(])|[)" WS R"(]+)";

// Words are split where a lower-case letter is followed by an upper-case one.
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^)" WS
    R"(\p{L}\p{N}]+[\r\n/]*|[)" WS R"(]*[\r\n]+|[)" WS R"(]+(?![^)" WS R"(])|[)" WS R"(]+)";

#undef WS

struct Known {
  const char* name;
  const char* expression;
  bool whole_tokens_first;
};

// Names as llama.cpp's converter gives them.
constexpr std::array<Known, 12> kKnown = {{
    {"default", kGpt2, false},
    {"gpt-2", kGpt2, false},
    {"llama-bpe", kLlama3, true},
    {"llama-v3", kLlama3, true},
    {"llama3", kLlama3, true},
    {"falcon3", kLlama3, true},
    {"qwen2", kQwen2, false},
    {"deepseek-r1-qwen", kQwen2, false},
    {"megrez", kQwen2, false},
    {"smollm", kSmolLm, false},
    {"starcoder", kSmolLm, false},
    {"tekken", kTekken, true},
}};

// As they stand in tokenizer.json, where \s does not take U+180E.
struct Published {
  const char* expression;
  const char* name;
};

constexpr Published kPublished[] = {
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
     R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "llama-bpe"},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
     R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "qwen2"},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
     R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
     R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "tekken"},
};

}  // namespace

struct PreTokenizer::Code {
  const Known* known = nullptr;
  pcre2_code* compiled = nullptr;
  bool jit = false;
  ~Code() { pcre2_code_free(compiled); }
};

class PreTokenizer::Scratch {
 public:
  explicit Scratch(const pcre2_code* code)
      : match(pcre2_match_data_create_from_pattern(code, nullptr)) {
    if (match == nullptr) throw std::bad_alloc();
  }
  ~Scratch() { pcre2_match_data_free(match); }
  pcre2_match_data* match;
};

void PreTokenizer::ScratchDeleter::operator()(Scratch* scratch) const { delete scratch; }

PreTokenizer::PreTokenizer(std::string_view name) : code_(std::make_unique<Code>()) {
  const auto known =
      std::find_if(kKnown.begin(), kKnown.end(), [&](const Known& k) { return name == k.name; });
  if (known == kKnown.end()) {
    std::string message =
        "tokenizer.ggml.pre: no pre-tokenizer is called \"" + std::string(name) + "\"; there are";
    for (const Known& k : kKnown)
      message += std::string(k.name == kKnown[0].name ? " " : ", ") + k.name;
    throw ModelError(message);
  }
  code_->known = &*known;
  int error = 0;
  PCRE2_SIZE where = 0;
  code_->compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(known->expression), PCRE2_ZERO_TERMINATED,
                    PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &where, nullptr);
  if (code_->compiled == nullptr) {
    throw ModelError("pre-tokenizer " + std::string(known->name) +
                     ": the installed PCRE2 does not take its expression (error " +
                     std::to_string(error) + " at " + std::to_string(where) + ")");
  }
  // Without a JIT on this machine the interpreter gives the same matches, slower.
  code_->jit = pcre2_jit_compile(code_->compiled, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
}

PreTokenizer::~PreTokenizer() = default;

std::vector<std::string> PreTokenizer::names() {
  std::vector<std::string> names;
  for (const Known& k : kKnown) names.emplace_back(k.name);
  return names;
}

std::string_view PreTokenizer::name_of(std::string_view published) {
  for (const Published& one : kPublished) {
    if (published == one.expression) return one.name;
  }
  return {};
}

bool PreTokenizer::whole_tokens_first() const { return code_->known->whole_tokens_first; }

PreTokenizer::ScratchPtr PreTokenizer::scratch() const {
  return ScratchPtr(new Scratch(code_->compiled));
}

// A hard partial match is exactly the question whether the end of the text was looked at: the
// library reports it, rather than a match, as soon as matching wants to see beyond the end.
size_t PreTokenizer::match(Scratch& scratch, std::string_view subject, bool more) const {
  const uint32_t options = more ? PCRE2_PARTIAL_HARD : 0;
  const auto* text = reinterpret_cast<PCRE2_SPTR>(subject.data());
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (code_->jit) {
    found =
        pcre2_jit_match(code_->compiled, text, subject.size(), 0, options, scratch.match, nullptr);
  }
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    found = pcre2_match(code_->compiled, text, subject.size(), 0,
                        options | PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scratch.match, nullptr);
  }
  if (found == PCRE2_ERROR_PARTIAL) return 0;
  if (found < 0) {
    throw ModelError("pre-tokenizer " + std::string(code_->known->name) + ": PCRE2 error " +
                     std::to_string(found));
  }
  return pcre2_get_ovector_pointer(scratch.match)[1];
}

bool PreTokenizer::Walk::find_valid_end() {
  const std::string_view rest = text_.substr(at_);
  const size_t valid = utf8_valid_prefix(rest);
  valid_end_ = at_ + valid;
  may_go_on_ = more_ && (valid_end_ == text_.size() ||
                         utf8_step(rest.substr(valid)).kind == Utf8::Incomplete);
  return valid > 0;
}

std::string_view PreTokenizer::Walk::next() {
  if (at_ == text_.size()) return {};
  size_t length = 1;
  if (at_ < valid_end_ || find_valid_end()) {
    std::string_view subject = text_.substr(at_, valid_end_ - at_);
    bool more = may_go_on_;
    if (subject.size() >= kMaxPiece) {
      more = false;
      size_t end = kMaxPiece;
      if (end < subject.size()) {
        while ((static_cast<unsigned char>(subject[end]) & 0xC0) == 0x80) --end;
      }
      subject = subject.substr(0, end);
    }
    length = pre_.match(scratch_, subject, more);
    if (length == 0) return {};
  } else if (may_go_on_) {
    return {};
  }
  at_ += length;
  return text_.substr(at_ - length, length);
}

}  // namespace ringtide::model

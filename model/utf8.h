// UTF-8 as the tokenizer and the detokenizer need it: where the next character ends.
//
// Well-formed as in the Unicode standard, table 3-7: no overlong forms, no surrogates, nothing
// above U+10FFFF.
#pragma once

#include <cstddef>
#include <string_view>

namespace ringtide::model {

enum class Utf8 {
  Valid,       // `length` bytes are one character
  Invalid,     // `length` bytes can never become a character, whatever follows
  Incomplete,  // the text ends after `length` bytes of what may become a character
};

struct Utf8Step {
  Utf8 kind;
  size_t length;  // 1 to 4
};

// The character at the start of a text. An Invalid step covers the longest part that could have
// begun a character, as Unicode advises for replacing it. REQUIRES: text is not empty.
Utf8Step utf8_step(std::string_view text);

// How many of the first bytes are whole, valid characters.
size_t utf8_valid_prefix(std::string_view text);

}  // namespace ringtide::model

// How byte-level vocabularies spell bytes: each byte is one printable character, as published with
// GPT-2 (Radford et al. 2019): printable Latin-1 stands for itself, the others follow from U+0100.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace ringtide::model {

class ByteAlphabet {
 public:
  ByteAlphabet();
  // The character of a byte, in UTF-8.
  std::string_view letter(uint8_t byte) const { return letters_[byte]; }
  // The bytes a spelling stands for. A text with a character outside the alphabet is no spelling
  // and stands for itself.
  std::string decode(std::string_view spelling) const;

 private:
  static constexpr size_t kCodes = 512;  // above the last letter
  std::array<std::string, 256> letters_;
  std::array<int16_t, kCodes> bytes_;  // by code point; -1: no letter
};

}  // namespace ringtide::model

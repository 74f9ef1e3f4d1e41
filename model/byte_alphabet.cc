#include "model/byte_alphabet.h"

#include "model/utf8.h"

namespace ringtide::model {
namespace {

bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

}  // namespace

ByteAlphabet::ByteAlphabet() {
  bytes_.fill(-1);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int code = stands_for_itself(byte) ? byte : next++;
    bytes_[code] = static_cast<int16_t>(byte);
    std::string& letter = letters_[byte];
    if (code >= 0x80) letter += static_cast<char>(0xC0 | code >> 6);
    letter += static_cast<char>(code >= 0x80 ? 0x80 | (code & 0x3F) : code);
  }
}

std::string ByteAlphabet::decode(std::string_view spelling) const {
  std::string bytes;
  bytes.reserve(spelling.size());
  for (size_t at = 0; at < spelling.size();) {
    const Utf8Step step = utf8_step(spelling.substr(at));
    if (step.kind != Utf8::Valid || step.length > 2) return std::string(spelling);
    size_t code = static_cast<uint8_t>(spelling[at]);
    if (step.length == 2) code = (code & 0x1F) << 6 | (spelling[at + 1] & 0x3F);
    if (code >= kCodes || bytes_[code] < 0) return std::string(spelling);
    bytes += static_cast<char>(bytes_[code]);
    at += step.length;
  }
  return bytes;
}

}  // namespace ringtide::model

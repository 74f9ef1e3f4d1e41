// Tokens of short pieces of text seen lately: most words of a text.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

#include "model/types.h"

namespace ringtide::model {

// A piece has one place, where the latest stays. One thread.
class PieceCache {
 public:
  // Appends the piece's tokens to `out`, and leaves them for the next time; `make` gives them,
  // where they are not known. REQUIRES: piece is not empty.
  template <class Make>
  void append(std::string_view piece, std::vector<TokenId>& out, const Make& make) {
    Entry& entry = entries_[std::hash<std::string_view>()(piece) % kEntries];
    if (entry.length == piece.size() &&
        std::memcmp(entry.piece.data(), piece.data(), piece.size()) == 0) {
      out.insert(out.end(), entry.tokens.begin(), entry.tokens.begin() + entry.count);
      return;
    }
    const std::vector<TokenId>& tokens = make(piece);
    out.insert(out.end(), tokens.begin(), tokens.end());
    if (piece.size() > entry.piece.size() || tokens.size() > entry.tokens.size()) return;
    entry.length = static_cast<uint8_t>(piece.size());
    entry.count = static_cast<uint8_t>(tokens.size());
    std::copy(piece.begin(), piece.end(), entry.piece.begin());
    std::copy(tokens.begin(), tokens.end(), entry.tokens.begin());
  }

 private:
  struct Entry {
    uint8_t length = 0;  // 0: free
    uint8_t count = 0;
    std::array<char, 22> piece;
    std::array<TokenId, 6> tokens;
  };
  static constexpr size_t kEntries = 1 << 14;
  std::vector<Entry> entries_ = std::vector<Entry>(kEntries);
};

}  // namespace ringtide::model

// A tokenizer without tables, for tests of what is above the model.
//
// Words (with the spaces before them) are cut into pairs of bytes, so how a text was cut into
// chunks would show in the tokens if it could; encode_stable() keeps the last word back. Ids below
// 256 are bytes, then come the special tokens, then the pairs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/tokenizer.h"

namespace ringtide::testing {

constexpr model::TokenId kBos = 256, kTurnStart = 257, kTurnEnd = 258, kPairs = 1000;

class FakeTokenizer : public model::Tokenizer {
 public:
  FakeTokenizer();
  using Tokenizer::encode;
  using Tokenizer::encode_stable;
  std::vector<model::TokenId> encode(std::string_view text, model::TextAt at) const override;
  Stable encode_stable(std::string_view text, model::TextAt at) const override;
  std::string_view bytes(model::TokenId token) const override;
  std::string_view name(model::TokenId token) const override;
  model::TokenId special(std::string_view name) const override;
  model::TokenId special_at(std::string_view text) const override;
  int32_t size() const override { return kPairs + 65536; }
  model::TokenId bos() const override { return kBos; }
  bool adds_bos() const override { return true; }
  bool ends_generation(model::TokenId token) const override { return token == kTurnEnd; }

  static model::TokenId pair(unsigned char a, unsigned char b) { return kPairs + a * 256 + b; }

 private:
  std::vector<std::string> bytes_;
};

}  // namespace ringtide::testing

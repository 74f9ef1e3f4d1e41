#include "tests/model/text_fixture.h"

#include <algorithm>

#include "model/utf8.h"

namespace ringtide::model {

using namespace std::string_view_literals;

std::vector<std::string> SmallVocabulary::default_merges() {
  // "Ġ" is the space of the byte alphabet, "Ċ" the newline.
  return {"Ġ t", "h e",   "Ġt he", "i n",  "Ġ Ġ",   "ĠĠ ĠĠ", "Ċ Ċ", "' s",  "l l", "' ll",
          "1 2", "12 3",  "a a",   "aa a", "aa aa", "Ã ©",   "ð Ł", "Ġ Ċ",  "e r", "in g",
          "Ġ a", "Ġa nd", "n d",   "t he", "< |",   "| >",   "i m", "<| im"};
}

SmallVocabulary::SmallVocabulary(std::vector<std::string> merge_list,
                                 std::vector<std::string> special)
    : merges(std::move(merge_list)) {
  const ByteAlphabet alphabet;
  for (int byte = 0; byte < 256; ++byte) {
    tokens.emplace_back(alphabet.letter(static_cast<uint8_t>(byte)));
  }
  for (const std::string& merge : merges) {
    std::string joined = merge;
    joined.erase(joined.find(' '), 1);
    if (std::find(tokens.begin(), tokens.end(), joined) == tokens.end()) tokens.push_back(joined);
  }
  tables.kinds.assign(tokens.size(), static_cast<int32_t>(TokenKind::Normal));
  for (const std::string& name : special) {
    tokens.push_back(name);
    tables.kinds.push_back(static_cast<int32_t>(TokenKind::Control));
  }
  tables.tokens.assign(tokens.begin(), tokens.end());
  tables.merges.assign(merges.begin(), merges.end());
}

std::shared_ptr<const Tokenizer> SmallVocabulary::make(std::string_view pre) {
  tables.pre = pre;
  return make_tokenizer(tables);
}

std::vector<std::string> SpaceVocabulary::default_pieces() {
  return {"▁t",      "he",   "▁the", "in",   "▁▁",      "▁▁▁▁", "er",      "▁a",
          "nd",      "▁and", "aa",   "aaaa", "aaa",     "ll",   "'s",      "漢字",
          "e\u0301", "é",    "▁th",  "the",  "...",     "!?",   "<|",      "|>",
          "im",      "_e",   "한국", "🙂", "▁🙂", "नम",   "▁\u3000", "\u200d👩"};
}

SpaceVocabulary::SpaceVocabulary(std::vector<std::string> pieces,
                                 std::vector<std::string> special) {
  for (int byte = 0; byte < 256; ++byte) {
    constexpr const char* kDigits = "0123456789ABCDEF";
    tokens.push_back(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">");
  }
  tables.kinds.assign(256, static_cast<int32_t>(TokenKind::Byte));
  for (const std::string& name : special) {
    tokens.push_back(name);
    tables.kinds.push_back(static_cast<int32_t>(TokenKind::Control));
  }
  const auto add = [&](const std::string& piece) {
    if (std::find(tokens.begin(), tokens.end(), piece) != tokens.end()) return;
    tokens.push_back(piece);
    tables.kinds.push_back(static_cast<int32_t>(TokenKind::Normal));
  };
  for (const std::string& piece : pieces) add(piece);
  for (const std::string& piece : pieces) {
    for (size_t at = 0; at < piece.size();) {
      const size_t length = utf8_step(std::string_view(piece).substr(at)).length;
      add(piece.substr(at, length));
      at += length;
    }
  }
  for (size_t i = 0; i < tokens.size(); ++i) tables.scores.push_back(-static_cast<float>(i));
  tables.model = "llama";
  tables.tokens.assign(tokens.begin(), tokens.end());
  tables.space_prefix = SpacePrefix::Always;
}

std::string nasty_text(std::mt19937_64& random, size_t parts) {
  static constexpr std::string_view kParts[] = {
      " "sv,
      " "sv,
      "  "sv,
      "    "sv,
      "\n"sv,
      "\n\n"sv,
      "\r\n"sv,
      "\t"sv,
      "\u00a0"sv,
      "\u3000"sv,
      "\u2028"sv,
      "\u180e"sv,
      "\u2581"sv,
      "<table>"sv,
      "\n\n\n"sv,
      "'"sv,
      "'s"sv,
      "'S"sv,
      "'l"sv,
      "'ll"sv,
      "'r"sv,
      "'re"sv,
      "'V"sv,
      "'ſ"sv,
      "ſ"sv,
      "\u2019s"sv,
      "s"sv,
      "the"sv,
      " the"sv,
      "and"sv,
      "aaaaaaa"sv,
      "l"sv,
      "e"sv,
      "1"sv,
      "12"sv,
      "123"sv,
      "4567890"sv,
      "٣"sv,
      "½"sv,
      "Ⅻ"sv,
      "e\u0301"sv,
      "\u0301"sv,
      "\u0308\u0327"sv,
      "漢字"sv,
      "かな"sv,
      "한국"sv,
      "שלום"sv,
      "नमस्ते"sv,
      "🙂"sv,
      "👍🏽"sv,
      "👩\u200d👩\u200d👧"sv,
      "\u200d"sv,
      "\ufe0f"sv,
      "🇩🇪"sv,
      "..."sv,
      "!?"sv,
      "-"sv,
      "_"sv,
      "$"sv,
      "<|im_end|>"sv,
      "<|im_start|>"sv,
      "<|"sv,
      "|>"sv,
      "\0"sv,
      "\x01"sv,
      "\x7f"sv,
      "\x80"sv,
      "\xbf"sv,
      "\xc3"sv,
      "\xc5"sv,
      "\xc5\xbf"sv,
      "\xe2\x82"sv,
      "\xe2"sv,
      "\xf0\x9f"sv,
      "\xf0\x9f\x99"sv,
      "\xc0\xaf"sv,
      "\xed\xa0\x80"sv,
      "\xf4\x90\x80\x80"sv,
      "\xff"sv,
      "\xfe\xff"sv,
      "\xf8\x88"sv,
  };
  std::string text;
  while (parts > 0) {
    const std::string_view part = kParts[random() % std::size(kParts)];
    const size_t times = random() % 8 == 0 ? 1 + random() % 6 : 1;
    for (size_t i = 0; i < times; ++i) text += part;
    --parts;
  }
  return text;
}

std::string spelled(const Tokenizer& tokenizer, const std::vector<TokenId>& tokens) {
  std::string text;
  for (const TokenId token : tokens) {
    const std::string_view bytes = tokenizer.bytes(token);
    text += bytes.empty() ? tokenizer.name(token) : bytes;
  }
  return text;
}

Fed feed(const Tokenizer& tokenizer, std::string_view text,
         const std::function<size_t()>& next_cut) {
  Fed fed;
  TextAt where = TextAt::Start;
  std::string tail;
  for (size_t at = 0; at < text.size();) {
    const size_t take = std::min(next_cut(), text.size() - at);
    tail += text.substr(at, take);
    at += take;
    const Tokenizer::Stable stable = tokenizer.encode_stable(tail, where);
    fed.tokens.insert(fed.tokens.end(), stable.tokens.begin(), stable.tokens.end());
    tail.erase(0, stable.bytes);
    if (stable.bytes > 0) where = TextAt::Inside;
    fed.longest_tail = std::max(fed.longest_tail, tail.size());
  }
  const std::vector<TokenId> rest = tokenizer.encode(tail, where);
  fed.tokens.insert(fed.tokens.end(), rest.begin(), rest.end());
  return fed;
}

}  // namespace ringtide::model

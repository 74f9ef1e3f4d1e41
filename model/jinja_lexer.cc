#include "model/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "model/jinja_value.h"

namespace ringtide::model::jinja {
namespace {

constexpr std::string_view kBlanks = " \t\r\n\v\f";

bool is_letter(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_code(uint32_t code, std::string& out) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

class Lexer {
 public:
  // `source` has no carriage returns.
  explicit Lexer(std::string_view source) : source_(source) {
    if (source_.ends_with('\n')) source_.remove_suffix(1);
  }

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const size_t open = find_tag();
      read_text(open);
      if (open == source_.size()) break;
      const char kind = source_[open + 1];
      at_ = open + 2;
      if (at_ < source_.size() && (source_[at_] == '-' || source_[at_] == '+')) ++at_;
      if (kind == '#') {
        skip_comment();
      } else if (kind == '{') {
        read_tag(Token::Kind::Output, "}}");
      } else if (!skip_raw()) {
        read_tag(Token::Kind::Block, "%}");
      }
    }
    add(Token::Kind::End, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error("line " + std::to_string(line_at(at_)) + ": " + what);
  }

  int line_at(size_t at) const {
    // Asked for in order, but for errors.
    if (at < counted_) return lines_;
    lines_ += static_cast<int>(std::count(source_.begin() + counted_, source_.begin() + at, '\n'));
    counted_ = at;
    return lines_;
  }

  void add(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_at(std::min(at_, source_.size()))});
  }

  size_t find_tag() const {
    for (size_t open = at_; (open = source_.find('{', open)) != std::string_view::npos; ++open) {
      const char next = open + 1 < source_.size() ? source_[open + 1] : ' ';
      if (next == '{' || next == '%' || next == '#') return open;
    }
    return source_.size();
  }

  // The text up to a tag, less the blanks that the tags on both sides take.
  void read_text(size_t open) {
    std::string_view text = source_.substr(at_, open - at_);
    if (strip_next_) {
      text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
    } else if (trim_next_ && text.starts_with('\n')) {
      text.remove_prefix(1);
    }
    if (open < source_.size()) {
      const char sign = open + 2 < source_.size() ? source_[open + 2] : ' ';
      if (sign == '-') {
        text = text.substr(0, text.find_last_not_of(kBlanks) + 1);
      } else if (source_[open + 1] != '{' && sign != '+') {
        // Only where nothing but blanks stands before the tag on its line.
        const size_t last = text.find_last_not_of(" \t");
        const bool alone = last != std::string_view::npos
                               ? text[last] == '\n'
                               : text.data() == source_.data() || text.data()[-1] == '\n';
        if (alone) text = text.substr(0, last + 1);
      }
    }
    strip_next_ = trim_next_ = false;
    if (!text.empty()) add(Token::Kind::Text, std::string(text));
  }

  // At the end of a tag: how it ends decides on the blanks after it.
  void end_tag(char sign, bool block) {
    strip_next_ = sign == '-';
    trim_next_ = block && sign != '+';
  }

  void skip_comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos) fail("a comment does not end");
    end_tag(end > at_ ? source_[end - 1] : ' ', true);
    at_ = end + 2;
  }

  // {% raw %} ... {% endraw %}: text as it is.
  bool skip_raw() {
    const auto tag_at = [&](size_t at, std::string_view word, char& sign) -> size_t {
      at = std::min(source_.find_first_not_of(kBlanks, at), source_.size());
      if (source_.substr(at, word.size()) != word) return 0;
      at = std::min(source_.find_first_not_of(kBlanks, at + word.size()), source_.size());
      sign = at < source_.size() ? source_[at] : ' ';
      if (sign == '-' || sign == '+') ++at;
      return source_.substr(at, 2) == "%}" ? at + 2 : 0;
    };
    char sign = ' ';
    const size_t begin = tag_at(at_, "raw", sign);
    if (begin == 0) return false;
    for (size_t open = begin; (open = source_.find("{%", open)) != std::string_view::npos; ++open) {
      char end_sign = ' ';
      const bool minus = open + 2 < source_.size() && source_[open + 2] == '-';
      const size_t end = tag_at(open + (minus ? 3 : 2), "endraw", end_sign);
      if (end == 0) continue;
      at_ = begin;
      end_tag(sign, true);
      read_text(open);
      at_ = end;
      end_tag(end_sign, true);
      return true;
    }
    fail("a raw block does not end");
  }

  void read_tag(Token::Kind kind, std::string_view close) {
    add(kind, "");
    int open_brackets = 0;
    while (true) {
      at_ = source_.find_first_not_of(kBlanks, at_);
      if (at_ == std::string_view::npos) {
        at_ = source_.size();
        fail("a tag does not end");
      }
      const std::string_view rest = source_.substr(at_);
      const bool sign = (rest[0] == '-' || rest[0] == '+') && rest.substr(1, 2) == close;
      if (open_brackets == 0 && (sign || rest.substr(0, 2) == close)) {
        add(Token::Kind::Close, "");
        end_tag(rest[0], kind == Token::Kind::Block);
        at_ += sign ? 3 : 2;
        return;
      }
      const char c = rest[0];
      if (is_letter(c)) {
        size_t length = 1;
        while (length < rest.size() && (is_letter(rest[length]) || is_digit(rest[length])))
          ++length;
        add(Token::Kind::Name, std::string(rest.substr(0, length)));
        at_ += length;
      } else if (is_digit(c)) {
        read_number(rest);
      } else if (c == '"' || c == '\'') {
        read_string(c);
      } else {
        open_brackets += std::string_view("([{").find(c) != std::string_view::npos;
        open_brackets -= std::string_view(")]}").find(c) != std::string_view::npos;
        read_operator(rest);
      }
    }
  }

  void read_number(std::string_view rest) {
    size_t length = 0;
    const auto digits = [&] {
      while (length < rest.size() && is_digit(rest[length])) ++length;
    };
    digits();
    const bool point =
        length + 1 < rest.size() && rest[length] == '.' && is_digit(rest[length + 1]);
    if (point) {
      ++length;
      digits();
    }
    add(point ? Token::Kind::Float : Token::Kind::Integer, std::string(rest.substr(0, length)));
    at_ += length;
  }

  void read_string(char quote) {
    const size_t start = at_;
    std::string text;
    for (++at_; at_ < source_.size() && source_[at_] != quote; ++at_) {
      if (source_[at_] == '\\' && at_ + 1 < source_.size()) {
        read_escape(text);
      } else {
        text += source_[at_];
      }
    }
    if (at_ >= source_.size()) {
      at_ = start;
      fail("a string does not end");
    }
    ++at_;
    add(Token::Kind::String, std::move(text));
  }

  void read_escape(std::string& text) {
    const char escape = source_[++at_];
    if (escape == 'x' || escape == 'u' || escape == 'U') {
      const size_t digits = escape == 'x' ? 2 : escape == 'u' ? 4 : 8;
      uint32_t code = 0;
      for (size_t i = 1; i <= digits; ++i) {
        const char c = at_ + i < source_.size() ? source_[at_ + i] : ' ';
        if (!std::isxdigit(static_cast<unsigned char>(c))) fail("a broken escape in a string");
        code = code * 16 + (is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
      }
      if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) fail("an escape of no character");
      append_code(code, text);
      at_ += digits;
      return;
    }
    if (escape == '\n') return;
    static constexpr std::array<std::pair<char, char>, 7> kKnown = {{{'n', '\n'},
                                                                     {'t', '\t'},
                                                                     {'r', '\r'},
                                                                     {'b', '\b'},
                                                                     {'f', '\f'},
                                                                     {'v', '\v'},
                                                                     {'0', '\0'}}};
    for (const auto& [name, meaning] : kKnown) {
      if (name == escape) {
        text += meaning;
        return;
      }
    }
    if (escape != '\\' && escape != '\'' && escape != '"') text += '\\';
    text += escape;
  }

  void read_operator(std::string_view rest) {
    for (const std::string_view op : {"==", "!=", "<=", ">=", "//", "**"}) {
      if (!rest.starts_with(op)) continue;
      add(Token::Kind::Operator, std::string(op));
      at_ += 2;
      return;
    }
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(rest[0]) == std::string_view::npos) {
      fail(std::string("a stray character in a tag: ") + rest[0]);
    }
    add(Token::Kind::Operator, std::string(1, rest[0]));
    ++at_;
  }

  std::string_view source_;
  size_t at_ = 0;
  bool strip_next_ = false, trim_next_ = false;
  mutable size_t counted_ = 0;
  mutable int lines_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> read_tokens(std::string_view source) {
  std::string lines;  // as Jinja has them
  lines.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      lines += source[i];
    } else if (source.substr(i, 2) != "\r\n") {
      lines += '\n';
    }
  }
  return Lexer(lines).run();
}

}  // namespace ringtide::model::jinja

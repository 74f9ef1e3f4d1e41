// The words of a Jinja template.
//
// Blanks around tags are dropped as Hugging Face's environment does: a newline after a block tag or
// comment (trim_blocks), blanks before one on its line (lstrip_blocks), all blanks where a tag has
// a minus, none where it has a plus, and one newline at the template's end.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ringtide::model::jinja {

struct Token {
  enum class Kind {
    Text,    // outside of tags
    Output,  // {{
    Block,   // {%
    Close,   // }} or %}
    Name,
    String,  // its escapes resolved
    Integer,
    Float,
    Operator,
    End,
  };
  Kind kind = Kind::End;
  std::string text;
  int line = 1;
};

// The last token is an End. Throws Error: a tag or a string that does not end, a stray character.
std::vector<Token> read_tokens(std::string_view source);

}  // namespace ringtide::model::jinja

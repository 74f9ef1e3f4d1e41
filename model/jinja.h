// Renders chat templates: the part of Jinja 3 that they use, as Hugging Face's `transformers` sets
// it up (blank lines of blocks trimmed, loop controls, raise_exception, strftime_now, values that
// cannot be changed). What is not supported is an error that names it, never other text.
//
// A template is not trusted: its steps, the bytes it makes and the depth of its nesting are
// limited, and it sees nothing but the variables it is given.
//
// Sources: https://jinja.palletsprojects.com/en/3.1.x/templates/ and
// https://huggingface.co/docs/transformers/chat_templating
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/jinja_syntax.h"
#include "model/jinja_value.h"

namespace ringtide::model::jinja {

// Immutable; any thread.
class Template {
 public:
  // Throws Error that tells the line.
  explicit Template(std::string_view source) : root_(parse(source)) {}

  // `now` is what strftime_now() tells. Throws Refusal where the template calls raise_exception(),
  // else Error that tells the line.
  std::string render(std::vector<std::pair<std::string, Value>> variables, std::time_t now) const;

 private:
  NodePtr root_;
};

}  // namespace ringtide::model::jinja

// Chat templates of the common families, in our own words, for models that bring none or one that
// cannot be used.
#pragma once

#include <string_view>
#include <vector>

namespace ringtide::model {

struct ChatFamily {
  std::string_view name;
  std::string_view source;  // Jinja
};

const std::vector<ChatFamily>& chat_families();

}  // namespace ringtide::model

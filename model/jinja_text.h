// The literal text in a Jinja template: what it can write without looking at a conversation.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ringtide::model {

// In order of appearance: the stretches outside of any {{ }}, {% %}, {# #}, and the string literals
// inside the first two, their escapes resolved. Nothing is evaluated; any bytes are taken.
std::vector<std::string> jinja_literals(std::string_view source);

}  // namespace ringtide::model

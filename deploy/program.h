// How this program is run again.
#pragma once

#include <string>

namespace ringtide::deploy {

// What a person writes in a shell, in any folder: its name if the search path finds it, else its
// path, quoted.
std::string program();

}  // namespace ringtide::deploy

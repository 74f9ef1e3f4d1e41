// Standard output, whose reader may leave and whose disk may fill up.
#pragma once

#include <string_view>

namespace ringtide::deploy {

// At once. False where not all of it could be written, now or before.
bool try_print(std::string_view text);
// Throws Failure unless everything that was printed could be written: Failed with the reason, or
// ClosedPipe without a message.
void require_printed();
// Both.
void print(std::string_view text);

}  // namespace ringtide::deploy

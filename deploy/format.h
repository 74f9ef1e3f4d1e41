// Numbers and tables as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ringtide::deploy {

std::string show_bytes(int64_t bytes);                 // "1.5 GiB"
std::string show_count(int64_t count);                 // "1,234,567"
std::string show_seconds(double seconds);              // "0.12 s", "4 min 05 s"
std::string show_rate(int64_t count, double seconds);  // "812.4 tokens/s"; "-" without time

// One word of a POSIX shell: as it is where that is safe, else in single quotes.
std::string quote_for_shell(const std::string& word);

// Columns padded to their widest cell; those whose every cell below the header starts with a digit
// are aligned to the right.
std::string show_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace ringtide::deploy

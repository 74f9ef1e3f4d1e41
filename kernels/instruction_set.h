// Which of the instruction sets that the kernels are compiled for is used: the best that the
// processor has, unless a measurement or a test chooses another.
#pragma once

#include <string>
#include <vector>

namespace ringtide::kernels {

// Names of those that this processor has, as Highway calls its targets ("AVX2"), the best first.
std::vector<std::string> instruction_sets();

// The one in use.
std::string instruction_set();

// From here on every kernel of this process uses that one of them; an empty name is the best.
// Returns false, and changes nothing, where it is not among them. REQUIRES: no kernel is running.
bool use_instruction_set(const std::string& name);

}  // namespace ringtide::kernels

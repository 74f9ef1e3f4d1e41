// What --device says.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ringtide::deploy {

// The numbers of "cuda:0,2"; nothing where it is not that.
std::optional<std::vector<int>> gpu_numbers(std::string_view wanted);
// Empty: `wanted` is a --device: "auto", "cpu", "cuda", "cuda:N" or a list, "cuda:0,2". Else what
// is wrong.
std::string wrong_device(const std::string& wanted);

}  // namespace ringtide::deploy

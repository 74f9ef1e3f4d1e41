// Encodes floats as GGUF's tensor types; the simplest rounding that is right, for models that tests
// make.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace ringtide::testing {

// The file's number of a type: F32, F16, BF16, Q8_0, Q4_0 or Q4_1. Throws std::invalid_argument.
uint32_t type_number(std::string_view type);

// `values` are whole blocks of the type. Throws std::invalid_argument: an unknown type.
std::vector<std::byte> quantize(std::string_view type, std::span<const float> values);

}  // namespace ringtide::testing

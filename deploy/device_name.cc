#include "deploy/device_name.h"

#include <charconv>

namespace ringtide::deploy {

namespace {

constexpr std::string_view kCuda = "cuda:";
constexpr int kMostGpu = 99;  // a greater number is a typing error

}  // namespace

std::optional<std::vector<int>> gpu_numbers(std::string_view wanted) {
  if (!wanted.starts_with(kCuda)) return {};
  std::vector<int> numbers;
  const char* const end = wanted.data() + wanted.size();
  for (const char* at = wanted.data() + kCuda.size();; ++at) {  // past a comma
    int number = 0;
    const auto [after, error] = std::from_chars(at, end, number);
    if (error != std::errc() || number < 0 || number > kMostGpu) return {};
    numbers.push_back(number);
    if (after == end) return numbers;
    if (*after != ',') return {};
    at = after;
  }
}

std::string wrong_device(const std::string& wanted) {
  if (wanted == "auto" || wanted == "cpu" || wanted == "cuda" || gpu_numbers(wanted)) return "";
  return "'" + wanted + "' is no device: write auto, cpu, cuda, cuda:N or cuda:N,N,...";
}

}  // namespace ringtide::deploy

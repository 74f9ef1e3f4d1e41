// Where the default model is, for tests that need a real one: RINGTIDE_TEST_MODEL, else the cache that
// deploy/fetch-model fills.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace ringtide::testing {

inline constexpr const char* kNoDefaultModel =
    "the default model is not here: run deploy/fetch-model, or set RINGTIDE_TEST_MODEL";

// Empty if there is none.
inline std::string default_model_path() {
  if (const char* path = std::getenv("RINGTIDE_TEST_MODEL")) return path;
  std::filesystem::path cache;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"))
    cache = xdg;
  else if (const char* home = std::getenv("HOME"))
    cache = std::filesystem::path(home) / ".cache";
  cache /= "ringtide/SmolLM2-135M-Instruct.Q4_1.gguf";
  return std::filesystem::exists(cache) ? cache.string() : "";
}

}  // namespace ringtide::testing

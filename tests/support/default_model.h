// Where real models are, for tests that need one: RINGTIDE_TEST_MODEL for the default one, else the
// cache that deploy/fetch-model fills.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace ringtide::testing {

inline constexpr const char* kNoDefaultModel =
    "the default model is not here: run deploy/fetch-model, or set RINGTIDE_TEST_MODEL";

inline constexpr const char* kNoGemma3 =
    "Gemma 3 270M is not here: run deploy/fetch-model gemma3-270m";

// Empty if there is none.
inline std::string cached_model_path(const char* name) {
  std::filesystem::path cache;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"))
    cache = xdg;
  else if (const char* home = std::getenv("HOME"))
    cache = std::filesystem::path(home) / ".cache";
  cache /= std::filesystem::path("ringtide") / name;
  return std::filesystem::exists(cache) ? cache.string() : "";
}

inline std::string default_model_path() {
  if (const char* path = std::getenv("RINGTIDE_TEST_MODEL")) return path;
  return cached_model_path("SmolLM2-135M-Instruct.Q4_1.gguf");
}

inline std::string gemma3_path() { return cached_model_path("gemma-3-270m-q4_k_m.gguf"); }

}  // namespace ringtide::testing

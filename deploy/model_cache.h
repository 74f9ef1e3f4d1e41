// The default model and the folder where deploy/fetch-model keeps it.
#pragma once

#include <string>

namespace ringtide::deploy {

inline constexpr const char* kDefaultModelFile = "SmolLM2-135M-Instruct.Q4_1.gguf";
inline constexpr const char* kDefaultModelSha256 =
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

std::string default_model_path();  // $XDG_CACHE_HOME/ringtide/..., else ~/.cache/ringtide/...
std::string default_store_path();  // $XDG_DATA_HOME/ringtide, else ~/.local/share/ringtide

// `given`, or the default model where that is empty. Throws Failure where the file is not there,
// saying how to get one.
std::string find_model(const std::string& given);

// 64 hex digits. Throws Failure where the file cannot be read.
std::string sha256_of(const std::string& path);

}  // namespace ringtide::deploy

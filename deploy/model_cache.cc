#include "deploy/model_cache.h"

#include <fmt/core.h>
#include <openssl/evp.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "deploy/failure.h"

namespace ringtide::deploy {

namespace {

// A folder of the XDG base directory specification, or its default under the home folder.
std::string xdg(const char* variable, const char* fallback) {
  const char* value = std::getenv(variable);
  if (value != nullptr && value[0] == '/') return value;
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr && *home != 0 ? home : "/tmp") + "/" + fallback;
}

}  // namespace

std::string default_model_path() {
  return xdg("XDG_CACHE_HOME", ".cache") + "/ringtide/" + kDefaultModelFile;
}

std::string default_store_path() { return xdg("XDG_DATA_HOME", ".local/share") + "/ringtide"; }

std::string find_model(const std::string& given) {
  const std::string path = given.empty() ? default_model_path() : given;
  std::error_code error;
  if (std::filesystem::is_regular_file(path, error)) return path;
  if (!given.empty() && std::filesystem::is_regular_file(path + "/config.json", error)) return path;
  if (given.empty()) {
    throw Failure(
        Exit::Model,
        fmt::format("the default model is not in the cache ({}): get it with "
                    "deploy/fetch-model, or name a GGUF file or a Hugging Face folder with --model",
                    path));
  }
  throw Failure(Exit::Model, fmt::format("no model file, and no folder with a config.json, at {}: "
                                         "check the path given with --model",
                                         path));
}

std::string sha256_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Failure(Exit::Model, fmt::format("cannot read {}", path));
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  std::vector<char> buffer(1 << 20);
  while (in) {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(in.gcount()));
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestFinal_ex(context.get(), digest, &length);
  std::string hex;
  for (unsigned i = 0; i < length; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

}  // namespace ringtide::deploy

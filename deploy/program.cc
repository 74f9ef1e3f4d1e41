#include "deploy/program.h"

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "deploy/format.h"

namespace ringtide::deploy {

namespace fs = std::filesystem;

std::string program() {
  std::error_code error;
  const fs::path path = fs::read_symlink("/proc/self/exe", error);
  if (error) return "ringtide";
  const char* folders = std::getenv("PATH");
  std::istringstream search(folders != nullptr ? folders : "");
  for (std::string folder; std::getline(search, folder, ':');) {
    if (folder.empty() || folder.front() != '/') continue;
    if (fs::equivalent(fs::path(folder) / path.filename(), path, error)) {
      return quote_for_shell(path.filename().string());
    }
  }
  return quote_for_shell(path.string());
}

}  // namespace ringtide::deploy

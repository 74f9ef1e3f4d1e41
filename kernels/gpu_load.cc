#include "kernels/gpu_load.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace ringtide::kernels {
namespace {

constexpr const char* kPlugin = "libringtide_cuda.so";

std::string find_plugin() {
  if (const char* named = std::getenv("RINGTIDE_CUDA_PLUGIN")) return named;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  for (const char* folder : {"", "../lib"}) {
    const auto path = program.parent_path() / folder / kPlugin;
    if (std::filesystem::exists(path, error)) return path.lexically_normal().string();
  }
  return "";
}

}  // namespace

GpuChoice open_gpu(int index) {
  const std::string path = find_plugin();
  if (path.empty()) return {nullptr, "this build has no GPU code (" + std::string(kPlugin) + ")"};
  // Stays open: objects of it may outlive whoever asked.
  void* plugin = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (plugin == nullptr) return {nullptr, std::string("the GPU code cannot be loaded: ") + dlerror()};
  const auto open = reinterpret_cast<OpenGpu>(dlsym(plugin, kOpenGpu));
  if (open == nullptr) return {nullptr, path + " is not a plug-in of this program"};
  GpuChoice choice;
  choice.gpu.reset(open(kGpuInterface, index, choice.reason));
  return choice;
}

}  // namespace ringtide::kernels

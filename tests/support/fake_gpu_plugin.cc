// fake_gpu.h as a plug-in, for programs that are run whole: RINGTIDE_CUDA_PLUGIN names it. There
// are FAKE_GPUS of FAKE_GPU_MIB each; one fails, once, when it finds the file FAKE_GPU_FAULT.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "tests/support/fake_gpu.h"

namespace {

int64_t number(const char* variable, int64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::atoll(text) : otherwise;
}

// Removing the file tells which one it was meant for.
void fail_once() {
  const char* const file = std::getenv("FAKE_GPU_FAULT");
  if (file != nullptr && std::remove(file) == 0)
    throw std::runtime_error("the fake GPU has failed");
}

}  // namespace

extern "C" __attribute__((visibility("default"))) ringtide::kernels::Gpu* ringtide_open_gpu(
    int interface, int index, std::string& reason) {
  if (interface != ringtide::kernels::kGpuInterface) {
    reason = "the fake GPU is of another build than this program";
    return nullptr;
  }
  const int64_t count = number("FAKE_GPUS", 2);
  if (index >= count) {
    reason = "there is no GPU " + std::to_string(index) + "; there are " + std::to_string(count);
    return nullptr;
  }
  return ringtide::testing::make_fake_gpu(number("FAKE_GPU_MIB", 512) << 20, nullptr, fail_once)
      .release();
}

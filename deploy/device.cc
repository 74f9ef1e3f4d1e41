#include "deploy/device.h"

#include <fmt/core.h>

#include <charconv>

#include "deploy/failure.h"
#include "deploy/format.h"
#include "kernels/gpu_load.h"

namespace ringtide::deploy {

namespace {

int index_of(const std::string& wanted) {
  int index = 0;
  const size_t colon = wanted.find(':');
  if (colon == std::string::npos) return 0;
  std::from_chars(wanted.data() + colon + 1, wanted.data() + wanted.size(), index);
  return index;
}

// The processor takes over.
void give_up(Device& device, const std::string& wanted, const std::string& why) {
  if (wanted != "auto") {
    throw Failure(Exit::Failed, fmt::format("--device {}: {}", wanted, why));
  }
  device.gpu = false;
  device.note = why;
}

}  // namespace

Device find_device(const std::string& wanted) {
  Device device;
  if (wanted == "cpu") return device;
  device.index = index_of(wanted);
  const kernels::GpuChoice choice = kernels::open_gpu(device.index);
  if (choice.gpu) {
    device.gpu = true;
    device.info = choice.gpu->info();
  } else {
    give_up(device, wanted, choice.reason);
  }
  return device;
}

void require_serves(Device& device, const std::string& wanted, const model::Model& model,
                    const model::PolicyConfig& policy, const model::EngineOptions& options) {
  if (!device.gpu) return;
  std::string why = model::gpu_refusal(model, options, device.info);
  if (why.empty()) why = model::gpu_refusal(policy, options);
  if (!why.empty()) give_up(device, wanted, why);
}

std::string show(const kernels::GpuInfo& info) {
  return fmt::format("{} ({} of {} free)", info.name, show_bytes(info.free_bytes),
                     show_bytes(info.total_bytes));
}

}  // namespace ringtide::deploy

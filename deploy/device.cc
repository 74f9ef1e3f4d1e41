#include "deploy/device.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "deploy/device_name.h"
#include "deploy/failure.h"
#include "deploy/format.h"
#include "kernels/gpu_load.h"

namespace ringtide::deploy {

namespace {

// A GPU for each shard.
std::vector<int> choose(const std::string& wanted, int shards) {
  std::vector<int> gpus = gpu_numbers(wanted).value_or(std::vector{0});
  if (gpus.size() > 1 && gpus.size() != static_cast<size_t>(shards)) {
    throw Failure(Exit::Usage,
                  fmt::format("--device {} names {} GPUs; {}", wanted, gpus.size(),
                              shards == 1 ? "only a ring uses several: --shards"
                                          : fmt::format("there are {} shards", shards)));
  }
  while (gpus.size() < static_cast<size_t>(shards)) gpus.push_back(gpus.back() + 1);
  // Kernels of shards wait for each other; those of more on one GPU need not run at once.
  for (const int gpu : gpus) {
    if (std::count(gpus.begin(), gpus.end(), gpu) > 2) {
      throw Failure(Exit::Usage,
                    fmt::format("--device {}: a GPU takes at most two shards of a ring", wanted));
    }
  }
  return gpus;
}

// The processor takes over.
void give_up(Device& device, const std::string& wanted, const std::string& why) {
  if (wanted != "auto") {
    throw Failure(Exit::Failed, fmt::format("--device {}: {}", wanted, why));
  }
  device.gpus.clear();
  device.note = why;
}

}  // namespace

std::string Device::name() const {
  const std::set<int> cards(gpus.begin(), gpus.end());
  return cards.size() > 1 ? fmt::format("{} x {}", cards.size(), info.name) : info.name;
}

Device find_device(const std::string& wanted, int shards) {
  Device device;
  if (wanted == "cpu") return device;
  device.gpus = choose(wanted, shards);
  for (const int number : std::vector(device.gpus)) {
    const kernels::GpuChoice choice = kernels::open_gpu(number);
    if (choice.gpu) {
      if (device.info.name.empty()) device.info = choice.gpu->info();
      continue;
    }
    give_up(device, wanted,
            shards == 1 ? choice.reason
                        : fmt::format("a GPU for each of {} shards: {}", shards, choice.reason));
    break;
  }
  return device;
}

void require_serves(Device& device, const std::string& wanted, const model::Model& model,
                    const model::PolicyConfig& policy, const model::EngineOptions& options) {
  if (!device.on_gpu()) return;
  std::string why = model::gpu_refusal(model, options, device.info);
  if (why.empty()) why = model::gpu_refusal(policy, options);
  if (!why.empty()) give_up(device, wanted, why);
}

std::shared_ptr<kernels::Gpu> open_gpu(int number) {
  kernels::GpuChoice choice = kernels::open_gpu(number);
  if (!choice.gpu) throw model::ModelError("a GPU is gone: " + choice.reason);
  return std::move(choice.gpu);
}

int64_t gpu_memory(const Device& device, const model::EngineOptions& options) {
  int64_t shards = 1;  // of the GPU that has most
  for (const int gpu : device.gpus) {
    shards = std::max<int64_t>(shards, std::count(device.gpus.begin(), device.gpus.end(), gpu));
  }
  if (shards == 1) return options.gpu_memory;
  const int64_t all = options.gpu_memory > 0 ? options.gpu_memory : device.info.free_bytes / 10 * 9;
  return all / shards;
}

std::string show(const kernels::GpuInfo& info) {
  return fmt::format("{} ({} of {} free)", info.name, show_bytes(info.free_bytes),
                     show_bytes(info.total_bytes));
}

}  // namespace ringtide::deploy

// What this machine has, as far as the service cares.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ringtide::deploy {

struct Machine {
  std::string cpu;                // model name
  std::vector<std::string> simd;  // features that the kernels can use, as the kernel names them
  int cores = 1;                  // this process may use: affinity and container quota included
  int64_t ram = 0;                // bytes, container limit included
  int64_t ram_available = 0;
  bool nvidia_device = false;
};

Machine inspect_machine();

struct Disk {
  std::string path;     // the folder, or its nearest parent that exists
  bool exists = false;  // the folder itself
  bool writable = false;
  int64_t free_bytes = 0;
};

Disk inspect_disk(const std::string& folder);

}  // namespace ringtide::deploy

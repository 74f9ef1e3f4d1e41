#include "deploy/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace ringtide::deploy {

namespace fs = std::filesystem;

namespace {

// Value of "key : value" or "key: value" in a /proc file; empty: no such line.
std::string proc_value(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

int64_t kib_value(std::string_view key) {
  return std::strtoll(proc_value("/proc/meminfo", key).c_str(), nullptr, 10) * 1024;
}

std::string first_line(const char* file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

int usable_cores() {
  cpu_set_t set;
  int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  // Control group version 2: "quota period", or "max period".
  std::istringstream quota(first_line("/sys/fs/cgroup/cpu.max"));
  double allowed = 0, period = 0;
  if (quota >> allowed >> period && period > 0) {
    cores = std::min(cores, static_cast<int>(std::ceil(allowed / period)));
  }
  return std::max(cores, 1);
}

}  // namespace

Machine inspect_machine() {
  Machine m;
  m.cpu = proc_value("/proc/cpuinfo", "model name");
  std::istringstream flags(proc_value("/proc/cpuinfo", "flags"));
  static constexpr std::string_view kUsed[] = {"avx2",        "fma",         "f16c",    "avx512f",
                                               "avx512_vnni", "avx512_bf16", "amx_tile"};
  for (std::string flag; flags >> flag;) {
    if (std::find(std::begin(kUsed), std::end(kUsed), flag) != std::end(kUsed)) {
      m.simd.push_back(flag);
    }
  }
  m.cores = usable_cores();
  m.ram = kib_value("MemTotal");
  m.ram_available = kib_value("MemAvailable");
  const int64_t limit = std::strtoll(first_line("/sys/fs/cgroup/memory.max").c_str(), nullptr, 10);
  if (limit > 0) {
    m.ram = std::min(m.ram, limit);
    m.ram_available = std::min(m.ram_available, limit);
  }
  m.nvidia_device = fs::exists("/dev/nvidia0");
  return m;
}

Disk inspect_disk(const std::string& folder) {
  std::error_code error;
  fs::path at = fs::absolute(folder, error);
  Disk disk;
  disk.exists = fs::is_directory(at, error);
  while (!fs::exists(at, error) && at.has_parent_path() && at != at.parent_path()) {
    at = at.parent_path();
  }
  disk.path = at.string();
  disk.writable = access(at.c_str(), W_OK | X_OK) == 0;
  const fs::space_info space = fs::space(at, error);
  if (!error) disk.free_bytes = static_cast<int64_t>(space.available);
  return disk;
}

}  // namespace ringtide::deploy

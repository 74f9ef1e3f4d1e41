// How fast the store is beside a plain file, in one run: synced appends, units written and read.
// Usage: store_bench <directory> [units]      One unit: 31 parts, 5.9 MB, as of a small model.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "storage/store.h"

using namespace ringtide::storage;

namespace {

constexpr size_t kPart = 196'608, kLastPart = 70'000;
constexpr int kFullParts = 30;
constexpr size_t kUnit = kFullParts * kPart + kLastPart;

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void need(bool good, const std::string& what) {
  if (good) return;
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}
void need(const Status& status) { need(status.ok(), status.message()); }

// Asks the system to forget the cached pages of all files; as root it does so at once.
void drop_caches() {
  ::sync();
  if (std::FILE* file = std::fopen("/proc/sys/vm/drop_caches", "w")) {
    std::fputs("1", file);
    std::fclose(file);
  }
}

void report(const char* what, double value, const char* unit, double baseline) {
  std::printf("%-28s %10.1f %-9s file %10.1f  ratio %.2f\n", what, value, unit, baseline,
              value / baseline);
}

struct File {
  explicit File(const std::string& path) : fd(::open(path.c_str(), O_CREAT | O_RDWR, 0600)) {
    need(fd >= 0, "cannot open " + path);
  }
  ~File() { ::close(fd); }
  void write(const void* data, size_t size) {
    need(::write(fd, data, size) == ssize_t(size), "cannot write");
  }
  void read(void* data, size_t size, off_t at) {
    need(::pread(fd, data, size, at) == ssize_t(size), "cannot read");
  }
  int fd;
};

void appends(Store& store, SessionId id, const std::string& directory, int group, int rounds) {
  static uint64_t next = 1;
  File file(directory + "/appends");
  const std::string bytes(size_t(group) * 100, 'x');
  const double raw = seconds([&] {
    for (int i = 0; i < rounds; ++i) {
      file.write(bytes.data(), bytes.size());
      need(::fdatasync(file.fd) == 0, "cannot sync");
    }
  });
  const double ours = seconds([&] {
    for (int i = 0; i < rounds; ++i) {
      std::vector<LogWrite> writes;
      for (int j = 0; j < group; ++j)
        writes.push_back({.session = id, .sequence = next++, .record = Generated{.tokens = {j}}});
      need(store.append(writes));
    }
  });
  const std::string name = "appends/s, groups of " + std::to_string(group);
  report(name.c_str(), group * rounds / ours, "records/s", group * rounds / raw);
}

}  // namespace

int main(int argc, char** argv) {
  need(argc >= 2, "usage: store_bench <directory> [units]");
  const std::string directory = std::string(argv[1]) + "/store_bench";
  const int units = argc > 2 ? std::atoi(argv[2]) : 200;
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  auto opened = Store::open(directory + "/store", {});
  need(opened.status());
  Store& store = *opened.value();
  const SessionId id = store.create("bench", {}).value().id;

  appends(store, id, directory, 1, 1000);
  appends(store, id, directory, 32, 1000);

  std::vector<std::byte> bytes(kUnit);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte(i * 2654435761u >> 13);
  const auto part_of = [](std::span<std::byte> unit, int part) {
    return unit.subspan(part * kPart, part < kFullParts ? kPart : kLastPart);
  };
  const double megabytes = double(kUnit) * units / 1e6;
  File file(directory + "/units");
  const double raw_write = seconds([&] {
    for (int i = 0; i < units; ++i) file.write(bytes.data(), bytes.size());
    need(::fdatasync(file.fd) == 0, "cannot sync");
  });
  const double write = seconds([&] {
    for (int i = 0; i < units; ++i) {
      UnitWrite unit{.owner = id, .key = {1, uint64_t(i)}, .number = i, .parts = {}};
      for (int part = 0; part <= kFullParts; ++part) unit.parts.push_back(part_of(bytes, part));
      need(store.put({&unit, 1}));
    }
    need(store.flush());
  });
  report("units written and flushed", megabytes / write, "MB/s", megabytes / raw_write);

  const auto read_all = [&] {
    for (int i = 0; i < units; ++i) {
      std::vector<PartRead> reads;
      for (uint32_t part = 0; part <= kFullParts; ++part)
        reads.push_back({.key = {1, uint64_t(i)}, .part = part, .into = part_of(bytes, part)});
      store.read(reads);
      need(std::all_of(reads.begin(), reads.end(),
                       [](const PartRead& read) { return read.outcome == ReadOutcome::Ok; }),
           "a part was not read");
    }
  };
  const auto read_file = [&] {
    for (int i = 0; i < units; ++i) file.read(bytes.data(), kUnit, off_t(i) * off_t(kUnit));
  };
  drop_caches();
  const double cold_file = seconds(read_file), warm_file = seconds(read_file);
  drop_caches();
  const double cold = seconds(read_all), warm = seconds(read_all);
  report("units read, cold", megabytes / cold, "MB/s", megabytes / cold_file);
  report("units read, warm", megabytes / warm, "MB/s", megabytes / warm_file);
  std::filesystem::remove_all(directory);
}

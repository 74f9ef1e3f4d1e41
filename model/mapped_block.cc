#include "model/mapped_block.h"

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <new>
#include <vector>

namespace ringtide::model {
namespace {

// Of small blocks several are mapped at once: the system allows a process only so many mappings.
constexpr size_t kAtOnceBytes = size_t{4} << 20;

size_t rounded(size_t bytes) {
  static const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return std::max<size_t>(1, (bytes + page - 1) / page) * page;
}

// Blocks that nobody has, by size.
class Unused {
 public:
  std::byte* take(size_t size) {
    const std::lock_guard lock(mutex_);
    Blocks& blocks = sizes_[size];
    if (!blocks.kept.empty()) {
      kept_bytes_ -= size;
      return pop(blocks.kept);
    }
    if (blocks.empty.empty()) map(blocks, size);
    return pop(blocks.empty);
  }

  void give(std::byte* block, size_t size) {
    const std::lock_guard lock(mutex_);
    Blocks& blocks = sizes_[size];
    if (kept_bytes_ + size <= MappedBlock::kKeptBytes) {
      kept_bytes_ += size;
      blocks.kept.push_back(block);
    } else {
      // The addresses stay mapped, since holes would cut the mapping into many.
      madvise(block, size, MADV_DONTNEED);
      blocks.empty.push_back(block);
    }
  }

 private:
  struct Blocks {
    std::vector<std::byte*> kept, empty;  // with memory, and without
    size_t mapped = 0;                    // ever, and in the capacity of both
  };

  static std::byte* pop(std::vector<std::byte*>& blocks) {
    std::byte* block = blocks.back();
    blocks.pop_back();
    return block;
  }

  static void map(Blocks& blocks, size_t size) {
    const size_t count = std::max<size_t>(1, kAtOnceBytes / size);
    for (auto* list : {&blocks.kept, &blocks.empty})
      if (list->capacity() < blocks.mapped + count) list->reserve(2 * (blocks.mapped + count));
    void* memory = mmap(nullptr, count * size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    blocks.mapped += count;
    for (size_t i = count; i-- > 0;)
      blocks.empty.push_back(static_cast<std::byte*>(memory) + i * size);
  }

  std::mutex mutex_;
  std::map<size_t, Blocks> sizes_;  // guarded by mutex_
  size_t kept_bytes_ = 0;           // guarded by mutex_
};

// Of the process, and never destroyed: units that wait to be written outlive the engine.
Unused& unused() {
  static Unused* const unused = new Unused;
  return *unused;
}

}  // namespace

MappedBlock::MappedBlock(size_t bytes) : data_(unused().take(rounded(bytes))), bytes_(bytes) {
  ASAN_UNPOISON_MEMORY_REGION(data_, bytes);
}

MappedBlock::~MappedBlock() {
  if (data_ == nullptr) return;
  ASAN_POISON_MEMORY_REGION(data_, bytes_);
  unused().give(data_, rounded(bytes_));
}

}  // namespace ringtide::model

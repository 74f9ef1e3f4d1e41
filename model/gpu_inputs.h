// What a pass reads of the host: arrays gathered in pinned memory, sent to the device with one copy.
//
// Arrays taken in the same order with the same sizes lie at the same places, so a captured graph can
// read them again after the next upload. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "kernels/gpu.h"

namespace ringtide::model {

class GpuInputs {
 public:
  explicit GpuInputs(kernels::Gpu& gpu) : gpu_(gpu), sent_(gpu.make_event()) {}
  ~GpuInputs() {
    gpu_.synchronize(*sent_);
    gpu_.release(device_);
    gpu_.release_host(host_);
  }
  GpuInputs(const GpuInputs&) = delete;

  template <class T>
  struct Array {
    T* host = nullptr;
    T* device = nullptr;
  };

  // Begins anew, with room for so many bytes of arrays of which each adds at most kSlack. Returns
  // whether all stays where it was: otherwise captured graphs point into freed memory.
  static constexpr int64_t kSlack = 256;
  bool begin(int64_t bytes) {
    gpu_.synchronize(*sent_);  // the last upload has read what is now overwritten
    used_ = 0;
    if (bytes <= capacity_) return true;
    gpu_.synchronize();
    gpu_.release(device_);
    gpu_.release_host(host_);
    capacity_ = bytes + bytes / 2;
    device_ = static_cast<std::byte*>(gpu_.allocate(capacity_));
    host_ = static_cast<std::byte*>(gpu_.allocate_host(capacity_));
    return false;
  }
  template <class T>
  Array<T> take(int64_t n) {
    const int64_t at = used_;
    used_ += (n * static_cast<int64_t>(sizeof(T)) + kSlack - 1) / kSlack * kSlack;
    if (used_ > capacity_) throw std::logic_error("GpuInputs: more than begin() said");
    return {reinterpret_cast<T*>(host_ + at), reinterpret_cast<T*>(device_ + at)};
  }
  // One array alone, of n elements.
  template <class T>
  void send(const Array<T>& array, int64_t n) {
    gpu_.copy(array.device, array.host, n * static_cast<int64_t>(sizeof(T)));
    gpu_.record(*sent_);
  }
  void send() {
    gpu_.copy(device_, host_, used_);
    gpu_.record(*sent_);
  }

 private:
  kernels::Gpu& gpu_;
  std::unique_ptr<kernels::Gpu::Event> sent_;
  std::byte* device_ = nullptr;
  std::byte* host_ = nullptr;
  int64_t capacity_ = 0, used_ = 0;
};

}  // namespace ringtide::model

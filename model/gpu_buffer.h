// Device memory that grows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/gpu.h"

namespace ringtide::model {

class GpuBuffer {
 public:
  explicit GpuBuffer(kernels::Gpu& gpu, int64_t bytes = 0) : gpu_(gpu) { need(bytes); }
  ~GpuBuffer() { gpu_.release(memory_); }
  GpuBuffer(const GpuBuffer&) = delete;

  // At least so many bytes, contents lost where it has to grow. Returns whether it stayed where it
  // was.
  bool need(int64_t bytes) {
    if (bytes <= bytes_) return true;
    gpu_.synchronize();
    gpu_.release(memory_);
    memory_ = nullptr;
    memory_ = gpu_.allocate(bytes);
    bytes_ = bytes;
    return false;
  }
  template <class T>
  T* as(int64_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(memory_) + byte_offset);
  }
  kernels::cuda::bf16* half(int64_t element = 0) const {
    return as<kernels::cuda::bf16>(element * 2);
  }
  // So many values after p: the type of them is not known here.
  template <class Half>
  static Half* after(Half* p, int64_t elements) {
    using Byte = std::conditional_t<std::is_const_v<Half>, const std::byte, std::byte>;
    return reinterpret_cast<Half*>(reinterpret_cast<Byte*>(p) + 2 * elements);
  }
  float* full(int64_t element = 0) const { return as<float>(element * 4); }

 private:
  kernels::Gpu& gpu_;
  void* memory_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace ringtide::model

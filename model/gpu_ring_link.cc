#include "model/gpu_ring_link.h"

#include <algorithm>

namespace ringtide::model {

GpuRingLink::GpuRingLink(kernels::Gpu& gpu, kernels::cuda::RingLink& link)
    : gpu_(gpu),
      link_(link),
      mine_(gpu, kWords * 8),
      all_(gpu, kWords * 8 * link.shards()),
      host_(static_cast<int64_t*>(gpu.allocate_host(kWords * 8 * (link.shards() + 1)))) {}

GpuRingLink::~GpuRingLink() { gpu_.release_host(host_); }

void GpuRingLink::step(const void* send, int64_t send_bytes, void* receive, int64_t receive_bytes,
                       Queue queue) {
  gpu_.ring_step(link_,
                 {number_++, send, static_cast<size_t>(send_bytes), receive,
                  static_cast<size_t>(receive_bytes)},
                 queue);
}

void GpuRingLink::gather(const void* mine, int64_t bytes, void* all, Queue queue) {
  gpu_.ring_gather(link_, number_++, mine, bytes, all, queue);
}

void GpuRingLink::merge(const kernels::cuda::RingMerge& a) {
  const int64_t row = int64_t{a.shape.heads} * a.shape.head_dim;
  for (int64_t at = 0; at < a.rows; at += kMostRows) {
    kernels::cuda::RingMerge piece = a;
    piece.rows = static_cast<int32_t>(std::min<int64_t>(kMostRows, a.rows - at));
    piece.o += at * row;
    piece.lse += at * a.shape.heads;
    piece.merged = GpuBuffer::after(a.merged, at * row);
    if (a.merged_lse) piece.merged_lse += at * a.shape.heads;
    gpu_.ring_merge(link_, piece);
  }
}

// Of host_, what all shards put into its first words.
const int64_t* GpuRingLink::exchange(int64_t words) {
  int64_t* const all = host_ + kWords;
  const int64_t bytes = words * 8;
  gpu_.copy(mine_.as<void>(), host_, bytes);
  gather(mine_.as<void>(), bytes, all_.as<void>(), Queue::Compute);
  gpu_.copy(all, all_.as<void>(), bytes * shards());
  finish();
  return all;
}

int64_t GpuRingLink::least(int64_t mine) {
  host_[0] = mine;
  const int64_t* const all = exchange(1);
  return *std::min_element(all, all + shards());
}

void GpuRingLink::any(std::vector<bool>& mine) {
  constexpr size_t kBits = 64 * kWords;
  for (size_t begin = 0; begin < mine.size(); begin += kBits) {
    const size_t end = std::min(mine.size(), begin + kBits);
    const auto words = static_cast<int64_t>((end - begin + 63) / 64);
    std::fill_n(host_, words, 0);
    for (size_t i = begin; i < end; ++i)
      host_[(i - begin) / 64] |= static_cast<int64_t>(uint64_t{mine[i]} << (i - begin) % 64);
    const int64_t* const all = exchange(words);
    for (size_t i = begin; i < end; ++i)
      for (int s = 0; s < shards(); ++s)
        if (static_cast<uint64_t>(all[s * words + static_cast<int64_t>(i - begin) / 64]) >>
                (i - begin) % 64 &
            1)
          mine[i] = true;
  }
}

}  // namespace ringtide::model

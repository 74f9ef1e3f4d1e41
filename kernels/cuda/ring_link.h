// How the GPUs of a ring exchange device memory: as kernels/ring/transport.h, but on streams.
//
// Steps are numbered like those of a Transport: the same numbers on every shard, none left out,
// also where nothing is sent. Errors are ring::RingError; the ring is over then. What is enqueued
// does not report: finish() does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/cuda/ring_merge.h"
#include "kernels/ring/transport.h"

namespace ringtide::kernels::cuda {

struct LinkStep {
  uint64_t number = 0;
  const void* send = nullptr;  // to the next shard; no bytes: no message
  size_t send_bytes = 0;
  void* receive = nullptr;  // from the previous one; no bytes: none comes
  size_t receive_bytes = 0;
};

// One shard's end. Its device is current in the one thread that uses it, but for abort().
class RingLink {
 public:
  virtual ~RingLink() = default;
  virtual int shard() const = 0;
  virtual int shards() const = 0;

  // Enqueues a step: done when both transfers are.
  virtual void step(const LinkStep& step, cudaStream_t stream) = 0;
  // Enqueues a step of its own: all = `bytes` of every shard, in the order of the shards.
  virtual void gather(uint64_t number, const void* mine, size_t bytes, void* all,
                      cudaStream_t stream) = 0;
  // Enqueues an exchange of parts and their merge. It has no number and may be
  // captured in a graph; all shards enqueue the same ones in the same order. Throws
  // std::invalid_argument where the part is larger than the link was made for.
  virtual void merge(const RingMerge& a, cudaStream_t stream) = 0;
  // Waits on the host until all that was enqueued before on `stream` is done, at most the deadline
  // that the link was made with; then what still runs is ended.
  virtual void finish(cudaStream_t stream) = 0;
  // Any thread.
  virtual void abort(const std::string& reason) = 0;
};

// The ends of all shards of a ring in one process.
class RingLinks {
 public:
  virtual ~RingLinks() = default;
  virtual RingLink& at(int shard) = 0;
};

}  // namespace ringtide::kernels::cuda

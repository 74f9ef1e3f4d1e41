// One NVIDIA GPU, as the rest of the project sees it: memory, order, and the operations of
// kernels/cuda. No CUDA header is needed to include this, and no driver to link it: the
// implementation is a plug-in that gpu_load.h opens at run time.
//
// Operations go to a queue in the order of the calls and do not wait; only what says so waits.
// Errors, also those of earlier operations, are thrown as std::runtime_error; after one the object
// is of no further use. The thread that opened it, as long as that opens no other: memory and kernels
// would be another's. allocate() throws std::logic_error then.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/learn.h"
#include "kernels/cuda/lookup.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/ring_link.h"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/weights.h"

namespace ringtide::kernels {

struct GpuInfo {
  std::string name;
  int index = 0;             // among those visible
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;    // when asked
  int multiprocessors = 0;
  int capability = 0;        // 90: 9.0
};

class Gpu {
 public:
  virtual ~Gpu() = default;
  virtual GpuInfo info() const = 0;

  // -- memory ----
  virtual void* allocate(int64_t bytes) = 0;  // on the device, 1024-byte aligned
  virtual void release(void* memory) noexcept = 0;
  // Of the host, pinned, at the same address for the device.
  virtual void* allocate_host(int64_t bytes) = 0;
  virtual void release_host(void* memory) noexcept = 0;

  // -- order ----
  // Side, Fetch: for operations beside those of the compute queue, see use().
  enum class Queue : uint8_t { Compute, Copy, Side, Fetch };
  // Between any two kinds of memory. Host memory that is not pinned is read before the call returns.
  virtual void copy(void* to, const void* from, int64_t bytes, Queue queue = Queue::Compute) = 0;
  // `rows` pieces of `width` bytes, at these distances in bytes from each other.
  virtual void copy_rows(void* to, int64_t to_stride, const void* from, int64_t from_stride,
                         int64_t width, int64_t rows, Queue queue = Queue::Compute) = 0;
  virtual void fill(void* to, uint8_t value, int64_t bytes) = 0;
  virtual void synchronize(Queue queue = Queue::Compute) = 0;  // waits for all of it

  // A point in a queue. Destroying one is allowed at any time.
  class Event {
   public:
    virtual ~Event() = default;
  };
  virtual std::unique_ptr<Event> make_event() = 0;
  virtual void record(Event& event, Queue queue = Queue::Compute) = 0;
  virtual void wait(Queue queue, Event& event) = 0;  // the queue waits, not the caller
  virtual bool reached(Event& event) = 0;            // true also if it was never recorded
  virtual void synchronize(Event& event) = 0;
  // Between two that have been reached.
  virtual double milliseconds(Event& from, Event& to) = 0;

  // Operations (below) go to this queue from now on; at first to the compute queue.
  virtual void use(Queue queue) = 0;

  // Operations on the compute queue between begin and end are kept instead of run, and so are those
  // of queues that were made to wait for it since, for which it has to wait in turn before the end.
  // They are run, with the pointers and numbers they were called with, as often as
  // the graph is launched.
  class Graph {
   public:
    virtual ~Graph() = default;
  };
  virtual void begin_graph() = 0;
  virtual std::unique_ptr<Graph> end_graph() = 0;
  virtual void launch(Graph& graph) = 0;

  // -- operations, see kernels/cuda/*.h ----
  virtual void dequantize(TensorType type, const std::byte* src, int64_t rows, int64_t k,
                          const int32_t* order, cuda::bf16* dst) = 0;
  virtual void fill_normal(cuda::bf16* dst, int64_t n, float deviation, uint64_t seed) = 0;
  virtual void embed(const int32_t* tokens, const cuda::bf16* table, int64_t rows, int64_t hidden,
                     float scale, float* x) = 0;
  virtual void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t dim,
                        cuda::bf16* y) = 0;
  virtual void gate_mul(const cuda::bf16* x, int64_t rows, int64_t n, cuda::Gate gate,
                        cuda::bf16* y) = 0;
  virtual void split_qkv(const cuda::Qkv& a) = 0;
  virtual void rotate_plane(const cuda::Heads& shape, int unit, cuda::Arena arena, int32_t src_row,
                            int32_t dst_row, const float* cos, const float* sin,
                            int32_t angle) = 0;
  virtual void rope_angles(const double* inv_freq, int32_t half, int64_t position, int64_t n,
                           float* cos, float* sin) = 0;
  virtual int64_t few_rows_scratch(int64_t n, int64_t k) const = 0;
  virtual void few_rows(const cuda::Product& p) = 0;
  virtual void gated_few_rows(const cuda::GatedProduct& p) = 0;
  virtual void many_rows(const cuda::Product& p) = 0;
  virtual void gated_rows(const cuda::GatedProduct& p) = 0;
  virtual void prefill_attention(const cuda::PrefillAttention& a) = 0;
  virtual int64_t decode_attention_scratch(const cuda::Heads& shape, int32_t rows,
                                           int32_t max_blocks) const = 0;
  virtual void decode_attention(const cuda::DecodeAttention& a) = 0;
  virtual void mean_query(const cuda::Heads& shape, const cuda::bf16* q, const int32_t* begin,
                          const int32_t* angle, int32_t rows, const float* cos, const float* sin,
                          cuda::bf16* out) = 0;
  virtual void learn(const cuda::Learn& a) = 0;
  virtual void represent(const cuda::Represent& a) = 0;
  virtual int64_t lookup_scratch(const cuda::Heads& shape, int32_t rows, int32_t max_sealed,
                                 int32_t max_select) const = 0;
  virtual void choose_units(const cuda::Lookup& a) = 0;
  virtual void assign_slots(const cuda::Lookup& a) = 0;
  virtual void fetch_units(const cuda::Lookup& a) = 0;
  virtual int64_t sample_scratch(int32_t rows, int32_t vocabulary) const = 0;
  virtual void sample(float* logits, int32_t rows, int32_t vocabulary,
                      const cuda::SampleRow* params, int32_t* tokens, float* scratch) = 0;

  // -- a ring of GPUs of this process, see kernels/cuda/ring_link.h ----
  // Makes the links of all shards, one a device, in this order. Each end is for the thread of its
  // GPU, and goes with the following four.
  virtual std::shared_ptr<cuda::RingLinks> make_ring(const std::vector<int>& devices,
                                                     std::chrono::milliseconds deadline,
                                                     int64_t part_floats) = 0;
  virtual void ring_step(cuda::RingLink& link, const cuda::LinkStep& step, Queue queue) = 0;
  virtual void ring_gather(cuda::RingLink& link, uint64_t number, const void* mine, int64_t bytes,
                           void* all, Queue queue) = 0;
  virtual void ring_merge(cuda::RingLink& link, const cuda::RingMerge& a) = 0;
  // Waits for the compute queue, but no longer than the ring's deadline.
  virtual void ring_finish(cuda::RingLink& link) = 0;
};

// How a plug-in is entered: null and a reason where there is no such device. The interface's number
// changes with every change of the above, so that a plug-in of another build is not used.
constexpr int kGpuInterface = 8;
constexpr const char* kOpenGpu = "ringtide_open_gpu";
using OpenGpu = Gpu* (*)(int interface, int index, std::string& reason);

}  // namespace ringtide::kernels

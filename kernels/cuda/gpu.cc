// The plug-in: kernels/gpu.h over CUDA's runtime and the kernels of this folder.
#include "kernels/gpu.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/cuda/check.h"
#include "kernels/cuda/peer_ring.h"

namespace ringtide::kernels {
namespace {

using cuda::bf16;
using cuda::check;

constexpr int kLeastCapability = 80;

class CudaGpu final : public Gpu {
 public:
  explicit CudaGpu(int index) : index_(index) {
    check(cudaSetDevice(index), "cudaSetDevice");
    check(cudaGetDeviceProperties(&properties_, index), "cudaGetDeviceProperties");
    check(cudaStreamCreateWithFlags(&compute_, cudaStreamNonBlocking), "cudaStreamCreate");
    check(cudaStreamCreateWithFlags(&copy_, cudaStreamNonBlocking), "cudaStreamCreate");
    at_ = compute_;
  }
  ~CudaGpu() override {
    cudaStreamDestroy(compute_);
    cudaStreamDestroy(copy_);
    if (side_) cudaStreamDestroy(side_);
    if (fetch_) cudaStreamDestroy(fetch_);
  }

  GpuInfo info() const override {
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return {properties_.name,
            index_,
            static_cast<int64_t>(total),
            static_cast<int64_t>(free),
            properties_.multiProcessorCount,
            properties_.major * 10 + properties_.minor};
  }

  // -- memory ----
  void* allocate(int64_t bytes) override {
    int current = -1;
    check(cudaGetDevice(&current), "cudaGetDevice");
    if (current != index_)
      throw std::logic_error("GPU " + std::to_string(index_) +
                             " is asked for memory by a thread of GPU " + std::to_string(current));
    void* memory = nullptr;
    const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 1024));
    check(cudaMalloc(&memory, size), ("GPU memory, " + std::to_string(size) + " bytes").c_str());
    return memory;
  }
  void release(void* memory) noexcept override { cudaFree(memory); }
  void* allocate_host(int64_t bytes) override {
    void* memory = nullptr;
    check(cudaHostAlloc(&memory, static_cast<size_t>(std::max<int64_t>(bytes, 1)),
                        cudaHostAllocPortable | cudaHostAllocMapped),
          ("pinned memory, " + std::to_string(bytes) + " bytes").c_str());
    return memory;
  }
  void release_host(void* memory) noexcept override { cudaFreeHost(memory); }

  // -- order ----
  void copy(void* to, const void* from, int64_t bytes, Queue queue) override {
    if (bytes == 0) return;
    check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, stream(queue)),
          "copy");
  }
  void copy_rows(void* to, int64_t to_stride, const void* from, int64_t from_stride, int64_t width,
                 int64_t rows, Queue queue) override {
    if (width == 0 || rows == 0) return;
    check(cudaMemcpy2DAsync(to, static_cast<size_t>(to_stride), from,
                            static_cast<size_t>(from_stride), static_cast<size_t>(width),
                            static_cast<size_t>(rows), cudaMemcpyDefault, stream(queue)),
          "copy_rows");
  }
  void fill(void* to, uint8_t value, int64_t bytes) override {
    if (bytes == 0) return;
    check(cudaMemsetAsync(to, value, static_cast<size_t>(bytes), compute_), "fill");
  }
  void synchronize(Queue queue) override {
    check(cudaStreamSynchronize(stream(queue)), "GPU work");
  }

  struct CudaEvent final : Event {
    CudaEvent() { check(cudaEventCreate(&event), "cudaEventCreate"); }
    ~CudaEvent() override { cudaEventDestroy(event); }
    cudaEvent_t event;
  };
  std::unique_ptr<Event> make_event() override { return std::make_unique<CudaEvent>(); }
  void record(Event& event, Queue queue) override {
    check(cudaEventRecord(of(event), stream(queue)), "cudaEventRecord");
  }
  void wait(Queue queue, Event& event) override {
    check(cudaStreamWaitEvent(stream(queue), of(event)), "cudaStreamWaitEvent");
  }
  bool reached(Event& event) override {
    const cudaError_t status = cudaEventQuery(of(event));
    if (status == cudaErrorNotReady) return false;
    check(status, "GPU work");
    return true;
  }
  void synchronize(Event& event) override { check(cudaEventSynchronize(of(event)), "GPU work"); }
  double milliseconds(Event& from, Event& to) override {
    float ms = 0;
    check(cudaEventElapsedTime(&ms, of(from), of(to)), "cudaEventElapsedTime");
    return ms;
  }

  struct CudaGraph final : Graph {
    ~CudaGraph() override {
      if (graph) cudaGraphExecDestroy(graph);
    }
    cudaGraphExec_t graph = nullptr;
  };
  void use(Queue queue) override { at_ = stream(queue); }

  void begin_graph() override {
    check(cudaStreamBeginCapture(compute_, cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCapture");
  }
  std::unique_ptr<Graph> end_graph() override {
    auto made = std::make_unique<CudaGraph>();
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(compute_, &graph), "cudaStreamEndCapture");
    const cudaError_t status = cudaGraphInstantiate(&made->graph, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "cudaGraphInstantiate");
    return made;
  }
  void launch(Graph& graph) override {
    check(cudaGraphLaunch(static_cast<CudaGraph&>(graph).graph, compute_), "cudaGraphLaunch");
  }

  // -- operations ----
  void dequantize(TensorType type, const std::byte* src, int64_t rows, int64_t k,
                  const int32_t* order, bf16* dst) override {
    cuda::dequantize(type, src, rows, k, order, dst, at_);
  }
  void fill_normal(bf16* dst, int64_t n, float deviation, uint64_t seed) override {
    cuda::fill_normal(dst, n, deviation, seed, at_);
  }
  void embed(const int32_t* tokens, const bf16* table, int64_t rows, int64_t hidden, float scale,
             float* x) override {
    cuda::embed(tokens, table, rows, hidden, scale, x, at_);
  }
  void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t dim,
                bf16* y) override {
    cuda::rms_norm(x, weight, eps, rows, dim, y, at_);
  }
  void gate_mul(const bf16* x, int64_t rows, int64_t n, cuda::Gate gate, bf16* y) override {
    cuda::gate_mul(x, rows, n, gate, y, at_);
  }
  void split_qkv(const cuda::Qkv& a) override { cuda::split_qkv(a, at_); }
  void rotate_plane(const cuda::Heads& shape, int unit, cuda::Arena arena, int32_t src_row,
                    int32_t dst_row, const float* cos, const float* sin, int32_t angle) override {
    cuda::rotate_plane(shape, unit, arena, src_row, dst_row, cos, sin, angle, at_);
  }
  void rope_angles(const double* inv_freq, int32_t half, int64_t position, int64_t n, float* cos,
                   float* sin) override {
    cuda::rope_angles(inv_freq, half, position, n, cos, sin, at_);
  }
  int64_t few_rows_scratch(int64_t n, int64_t k) const override {
    return cuda::few_rows_scratch(n, k);
  }
  void few_rows(const cuda::Product& p) override { cuda::few_rows(p, at_); }
  void gated_few_rows(const cuda::GatedProduct& p) override { cuda::gated_few_rows(p, at_); }
  void many_rows(const cuda::Product& p) override {
    products().run(p, at_);
  }
  void gated_rows(const cuda::GatedProduct& p) override { products().run(p, at_); }
  void prefill_attention(const cuda::PrefillAttention& a) override {
    cuda::prefill_attention(a, at_);
  }
  int64_t decode_attention_scratch(const cuda::Heads& shape, int32_t rows,
                                   int32_t max_blocks) const override {
    return cuda::decode_attention_scratch(shape, rows, max_blocks);
  }
  void decode_attention(const cuda::DecodeAttention& a) override {
    cuda::decode_attention(a, at_);
  }
  void mean_query(const cuda::Heads& shape, const bf16* q, const int32_t* begin,
                  const int32_t* angle, int32_t rows, const float* cos, const float* sin,
                  bf16* out) override {
    cuda::mean_query(shape, q, begin, angle, rows, cos, sin, out, at_);
  }
  void learn(const cuda::Learn& a) override { cuda::learn(a, at_); }
  void represent(const cuda::Represent& a) override { cuda::represent(a, at_); }
  int64_t lookup_scratch(const cuda::Heads& shape, int32_t rows, int32_t max_sealed,
                         int32_t max_select) const override {
    return cuda::lookup_scratch(shape, rows, max_sealed, max_select);
  }
  void choose_units(const cuda::Lookup& a) override { cuda::choose_units(a, at_); }
  void assign_slots(const cuda::Lookup& a) override { cuda::assign_slots(a, at_); }
  void fetch_units(const cuda::Lookup& a) override { cuda::fetch_units(a, at_); }
  int64_t sample_scratch(int32_t rows, int32_t vocabulary) const override {
    return cuda::sample_scratch(rows, vocabulary);
  }
  void sample(float* logits, int32_t rows, int32_t vocabulary, const cuda::SampleRow* params,
              int32_t* tokens, float* scratch) override {
    cuda::sample(logits, rows, vocabulary, params, tokens, scratch, at_);
  }

  std::shared_ptr<cuda::RingLinks> make_ring(const std::vector<int>& devices,
                                             std::chrono::milliseconds deadline,
                                             int64_t part_floats) override {
    return std::make_shared<cuda::PeerRing>(devices, deadline, part_floats);
  }
  void ring_step(cuda::RingLink& link, const cuda::LinkStep& step, Queue queue) override {
    link.step(step, stream(queue));
  }
  void ring_gather(cuda::RingLink& link, uint64_t number, const void* mine, int64_t bytes,
                   void* all, Queue queue) override {
    link.gather(number, mine, static_cast<size_t>(bytes), all, stream(queue));
  }
  void ring_merge(cuda::RingLink& link, const cuda::RingMerge& a) override {
    link.merge(a, at_);
  }
  void ring_finish(cuda::RingLink& link) override { link.finish(at_); }

 private:
  // Those beside are made when they are asked for: a device has few queues of its own, and streams
  // that share one wait for each other.
  static cudaStream_t made(cudaStream_t& stream) {
    if (!stream)
      check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    return stream;
  }
  cudaStream_t stream(Queue queue) {
    switch (queue) {
      case Queue::Copy:
        return copy_;
      case Queue::Side:
        return made(side_);
      case Queue::Fetch:
        return made(fetch_);
      default:
        return compute_;
    }
  }
  cuda::ManyRows& products() {
    if (!many_rows_) many_rows_ = std::make_unique<cuda::ManyRows>();
    return *many_rows_;
  }
  static cudaEvent_t of(Event& event) { return static_cast<CudaEvent&>(event).event; }

  const int index_;
  cudaDeviceProp properties_{};
  cudaStream_t compute_ = nullptr, copy_ = nullptr, side_ = nullptr, fetch_ = nullptr;
  cudaStream_t at_ = nullptr;  // where operations go
  std::unique_ptr<cuda::ManyRows> many_rows_;
};

}  // namespace
}  // namespace ringtide::kernels

extern "C" __attribute__((visibility("default"))) ringtide::kernels::Gpu* ringtide_open_gpu(
    int interface, int index, std::string& reason) {
  using namespace ringtide::kernels;  // NOLINT: the plug-in's only entry
  if (interface != kGpuInterface) {
    reason = "the GPU code is of another build than this program";
    return nullptr;
  }
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    if (status == cudaSuccess || status == cudaErrorNoDevice)
      reason = "no NVIDIA GPU is visible";
    else if (status == cudaErrorInsufficientDriver)
      reason = "there is no NVIDIA driver, or none for CUDA 13 (580 and later)";
    else
      reason = std::string("CUDA says: ") + cudaGetErrorString(status);
    return nullptr;
  }
  if (index < 0 || index >= count) {
    reason = "there is no GPU " + std::to_string(index) + "; " + std::to_string(count) +
             " are visible, the first is 0";
    return nullptr;
  }
  try {
    auto gpu = std::make_unique<CudaGpu>(index);
    const GpuInfo info = gpu->info();
    if (info.capability < kLeastCapability) {
      reason = info.name + " has compute capability " + std::to_string(info.capability / 10) + "." +
               std::to_string(info.capability % 10) + "; 8.0 is the least that is served";
      return nullptr;
    }
    return gpu.release();
  } catch (const std::exception& e) {
    reason = e.what();
    return nullptr;
  }
}

#include "tests/support/fake_gpu.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <stdexcept>
#include <unordered_map>
#include <vector>

#include "tests/support/fake_operations.h"
#include "tests/support/fake_ring.h"
#include "tests/support/fake_values.h"

namespace ringtide::testing {
namespace {

using namespace kernels;        // NOLINT: the whole file is about these
using namespace kernels::cuda;  // NOLINT

struct FakeEvent : Gpu::Event {
  bool recorded = false;
  Gpu::Queue queue = Gpu::Queue::Compute;
  uint64_t place = 0;  // operations of the queue before it
};
struct FakeGraph : Gpu::Graph {
  std::vector<std::function<void()>> operations;
};

class FakeGpu final : public Gpu {
 public:
  FakeGpu(int64_t memory, FakeGpuCounts* counts, std::function<void()> at_launch, double guessed)
      : memory_(memory),
        counts_(counts ? *counts : own_counts_),
        at_launch_(std::move(at_launch)),
        guessed_(guessed) {}
  ~FakeGpu() override {
    for (const auto& [p, bytes] : device_) std::free(p);
    for (const auto& [p, bytes] : host_) std::free(p);
  }

  GpuInfo info() const override { return {"fake", 0, memory_, memory_ - used_, 1, 90}; }

  void* allocate(int64_t bytes) override {
    if (used_ + bytes > memory_) throw std::runtime_error("the fake GPU is out of memory");
    used_ += bytes;
    return take(device_, bytes);
  }
  void release(void* p) noexcept override {
    if (!p) return;
    used_ -= device_.at(p);
    give(device_, p);
  }
  void* allocate_host(int64_t bytes) override { return take(host_, bytes); }
  void release_host(void* p) noexcept override {
    if (p) give(host_, p);
  }

  void copy(void* to, const void* from, int64_t bytes, Queue queue) override {
    copy_rows(to, 0, from, 0, bytes, 1, queue);
  }
  void copy_rows(void* to, int64_t to_stride, const void* from, int64_t from_stride, int64_t width,
                 int64_t rows, Queue queue) override {
    auto work = [=] {
      for (int64_t r = 0; r < rows && width > 0; ++r)
        std::memcpy(static_cast<std::byte*>(to) + r * to_stride,
                    static_cast<const std::byte*>(from) + r * from_stride, width);
    };
    if (queue == Queue::Compute) return run(work);
    copies_.push_back(work);
  }
  void fill(void* to, uint8_t v, int64_t bytes) override {
    run([=] { std::memset(to, v, bytes); });
  }
  void synchronize(Queue queue) override {
    if (queue == Queue::Copy) drain(copies_taken_ + copies_.size());
    if (queue == Queue::Compute) ++counts_.waits;
  }

  std::unique_ptr<Event> make_event() override { return std::make_unique<FakeEvent>(); }
  void record(Event& event, Queue queue) override {
    auto& e = static_cast<FakeEvent&>(event);
    e.recorded = true;
    e.queue = queue;
    e.place = copies_taken_ + copies_.size();
  }
  void wait(Queue, Event& event) override { synchronize(event); }
  bool reached(Event& event) override {
    const auto& e = static_cast<FakeEvent&>(event);
    if (!e.recorded || e.queue == Queue::Compute) return true;
    if (++questions_ % 4 == 0 && !copies_.empty()) drain(copies_taken_ + 1);
    return copies_taken_ >= e.place;
  }
  void synchronize(Event& event) override {
    const auto& e = static_cast<FakeEvent&>(event);
    if (e.recorded && e.queue == Queue::Copy) drain(e.place);
  }
  double milliseconds(Event&, Event&) override { return 1; }

  void use(Queue) override {}  // operations of all queues run when they are called

  void begin_graph() override { capturing_ = std::make_unique<FakeGraph>(); }
  std::unique_ptr<Graph> end_graph() override { return std::move(capturing_); }
  void launch(Graph& graph) override {
    ++counts_.launches;
    if (at_launch_) at_launch_();
    for (auto& operation : static_cast<FakeGraph&>(graph).operations) operation();
  }

  void dequantize(TensorType type, const std::byte* src, int64_t rows, int64_t k,
                  const int32_t* order, bf16* dst) override {
    run([=] {
      std::vector<float> row(k);
      for (int64_t i = 0; i < rows; ++i) {
        kernels::dequantize(type, src + (order ? order[i] : i) * row_bytes(type, k), k, row.data());
        for (int64_t j = 0; j < k; ++j) store(dst, i * k + j, row[j]);
      }
    });
  }
  void fill_normal(bf16* dst, int64_t n, float deviation, uint64_t seed) override {
    run([=] {
      std::mt19937_64 random(seed);
      std::normal_distribution<float> normal(0, deviation);
      for (int64_t i = 0; i < n; ++i) store(dst, i, normal(random));
    });
  }
  void embed(const int32_t* tokens, const bf16* table, int64_t rows, int64_t hidden, float scale,
             float* x) override {
    run([=] {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < hidden; ++i)
          x[r * hidden + i] = scale * value(table, tokens[r] * hidden + i);
    });
  }
  void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t dim,
                bf16* y) override {
    run([=] {
      for (int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (int64_t i = 0; i < dim; ++i) squares += double{x[r * dim + i]} * x[r * dim + i];
        const double scale = 1 / std::sqrt(squares / static_cast<double>(dim) + eps);
        for (int64_t i = 0; i < dim; ++i)
          store(y, r * dim + i, static_cast<float>(x[r * dim + i] * scale) * weight[i]);
      }
    });
  }
  void gate_mul(const bf16* x, int64_t rows, int64_t n, Gate gate, bf16* y) override {
    run([=] {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < n; ++i) {
          const float g = value(x, r * 2 * n + i), up = value(x, r * 2 * n + n + i);
          const float a =
              gate == Gate::Silu
                  ? g / (1 + std::exp(-g))
                  : g / 2 * (1 + std::tanh(0.7978845608f * (g + 0.044715f * g * g * g)));
          store(y, r * n + i, a * up);
        }
    });
  }

  void split_qkv(const Qkv& a) override {
    run([=] { fake_split_qkv(a); });
  }
  void rotate_plane(const Heads& shape, int unit, Arena arena, int32_t src_row, int32_t dst_row,
                    const float* cos, const float* sin, int32_t angle) override {
    run([=] {
      const int dim = shape.head_dim, half = dim / 2;
      for (int64_t r = 0; r < int64_t{shape.kv_heads} * unit; ++r)
        for (int j = 0; j < half; ++j) {
          const int64_t row = angle + r % unit;
          const float c = cos[row * half + j], s = sin[row * half + j];
          const float x = value(arena.base, (src_row + r) * dim + j);
          const float y = value(arena.base, (src_row + r) * dim + half + j);
          store(arena.base, (dst_row + r) * dim + j, x * c - y * s);
          store(arena.base, (dst_row + r) * dim + half + j, x * s + y * c);
        }
    });
  }
  void rope_angles(const double* inv_freq, int32_t half, int64_t position, int64_t n, float* cos,
                   float* sin) override {
    run([=] {
      for (int64_t i = 0; i < n * half; ++i) {
        const double angle = static_cast<double>(position + i / half) * inv_freq[i % half];
        cos[i] = static_cast<float>(std::cos(angle));
        sin[i] = static_cast<float>(std::sin(angle));
      }
    });
  }

  int64_t few_rows_scratch(int64_t, int64_t) const override { return 1; }
  void few_rows(const Product& p) override {
    if (p.m > kFewRows) throw std::logic_error("few_rows: too many rows");
    product(p);
  }
  void gated_few_rows(const GatedProduct& p) override {
    if (p.m > kFewRows) throw std::logic_error("gated_few_rows: too many rows");
    gated_rows(p);
  }
  void many_rows(const Product& p) override { product(p); }
  void gated_rows(const GatedProduct& p) override {
    product({.x = p.x, .w = p.w, .m = p.m, .n = 2 * p.n, .k = p.k, .y = p.between});
    gate_mul(p.between, p.m, p.n, p.gate, p.y);
  }

  void prefill_attention(const PrefillAttention& a) override {
    run([=] {
      const int64_t row = int64_t{a.shape.heads} * a.shape.head_dim;
      for (int64_t i = 0; i < a.m; ++i)
        fake_attend(a.shape, a.unit, a.arena, at(a.q_near, i * a.q_stride),
                    at(a.q_far, i * a.q_stride),
                    a.positions ? a.positions[i / kPositionRun] + i % kPositionRun : a.position + i,
                    a.lists, a.lists.near.row_offset, a.lists.far.row_offset, a.near_band,
                    a.far_band, a.scale,
                    {a.o_before ? a.o_before + i * row : nullptr,
                     a.lse_before ? a.lse_before + i * a.shape.heads : nullptr},
                    {a.o ? at(a.o, i * row) : nullptr, a.o32 ? a.o32 + i * row : nullptr,
                     a.lse ? a.lse + i * a.shape.heads : nullptr});
    });
  }
  int64_t decode_attention_scratch(const Heads&, int32_t, int32_t) const override { return 1; }
  void decode_attention(const DecodeAttention& a) override {
    run([=] {
      const int64_t row = int64_t{a.shape.heads} * a.shape.head_dim;
      for (int32_t r = 0; r < a.rows; ++r) {
        const Lists& l = a.lists[r];
        if (l.near.max_count > a.max_near || l.far.max_count > a.max_far ||
            l.units.max_count > a.max_units)
          throw std::logic_error("decode_attention: a list is longer than the launch");
        fake_attend(a.shape, a.unit, a.arena, at(a.q_near, r * row), at(a.q_far, r * row),
                    a.position[r], l, a.row_offset, a.row_offset, a.near_band[r], a.far_band[r],
                    a.scale, {},
                    {a.o ? at(a.o, r * row) : nullptr, a.o32 ? a.o32 + r * row : nullptr,
                     a.lse ? a.lse + int64_t{r} * a.shape.heads : nullptr});
      }
    });
  }

  void mean_query(const Heads& shape, const bf16* q, const int32_t* begin, const int32_t* angle,
                  int32_t rows, const float* cos, const float* sin, bf16* out) override {
    run([=] {
      const int dim = shape.head_dim, half = dim / 2;
      const int64_t row = int64_t{shape.heads} * dim;
      std::vector<float> mean(row);
      for (int32_t r = 0; r < rows; ++r) {
        std::fill(mean.begin(), mean.end(), 0.0f);
        for (int32_t i = begin[r]; i < begin[r + 1]; ++i)
          for (int64_t j = 0; j < row; ++j) mean[j] += value(q, i * row + j);
        for (float& m : mean) m /= static_cast<float>(begin[r + 1] - begin[r]);
        for (int h = 0; h < shape.heads; ++h)
          for (int j = 0; j < half; ++j) {
            const float c = cos[int64_t{angle[r]} * half + j],
                        s = sin[int64_t{angle[r]} * half + j];
            const float x = mean[h * dim + j], y = mean[h * dim + half + j];
            store(out, r * row + h * dim + j, x * c - y * s);
            store(out, r * row + h * dim + half + j, x * s + y * c);
          }
      }
    });
  }

  void learn(const Learn& a) override {
    run([=] { fake_learn(a); });
  }
  void represent(const Represent& a) override {
    run([=] { fake_represent(a); });
  }

  int64_t lookup_scratch(const Heads&, int32_t, int32_t, int32_t) const override { return 1; }
  void choose_units(const Lookup& a) override {
    run([=] {
      for (int32_t r = 0; r < a.rows; ++r) fake_choose(a, r);
    });
  }
  void assign_slots(const Lookup& a) override {
    run([=, this] {
      std::vector<FakeCopy>& copies = copies_of_[a.scratch];
      copies.clear();
      for (int32_t r = 0; r < a.rows; ++r) fake_assign(a, r, copies);
    });
  }
  void fetch_units(const Lookup& a) override {
    run([=, this] { fake_fetch(copies_of_[a.scratch], guessed_); });
  }

  int64_t sample_scratch(int32_t, int32_t) const override { return 1; }
  void sample(float* logits, int32_t rows, int32_t vocabulary, const SampleRow* params,
              int32_t* tokens, float*) override {
    run([=] {
      for (int32_t r = 0; r < rows; ++r)
        tokens[r] = fake_sample(logits + int64_t{r} * vocabulary, vocabulary, params[r]);
    });
  }

  std::shared_ptr<RingLinks> make_ring(const std::vector<int>& devices,
                                       std::chrono::milliseconds deadline,
                                       int64_t part_floats) override {
    return make_fake_ring(static_cast<int>(devices.size()), deadline, part_floats);
  }
  // What comes is put where it belongs when somebody waits for the queue.
  void ring_step(RingLink& link, const LinkStep& step, Queue queue) override {
    if (queue == Queue::Copy) drain(copies_taken_ + copies_.size());
    auto came = std::make_shared<std::vector<std::byte>>(step.receive_bytes);
    LinkStep now = step;
    now.receive = came->data();
    link.step(now, nullptr);
    if (!came->empty()) copy(step.receive, came, queue);
  }
  void ring_gather(RingLink& link, uint64_t number, const void* mine, int64_t bytes, void* all,
                   Queue) override {
    link.gather(number, mine, static_cast<size_t>(bytes), all, nullptr);
  }
  void ring_merge(RingLink& link, const RingMerge& a) override {
    run([&link, a] { link.merge(a, nullptr); });
  }
  void ring_finish(RingLink& link) override { link.finish(nullptr); }

 private:
  using Blocks = std::unordered_map<void*, int64_t>;
  void* take(Blocks& blocks, int64_t bytes) {
    const int64_t rounded = std::max<int64_t>(1, (bytes + 1023) / 1024) * 1024;
    void* p = std::aligned_alloc(1024, rounded);
    std::memset(p, 0xff, rounded);  // NaN, whatever it is read as
    blocks[p] = bytes;
    return p;
  }
  static void give(Blocks& blocks, void* p) {
    std::memset(p, 0xff, blocks.at(p));
    blocks.erase(p);
    std::free(p);
  }
  void copy(void* to, std::shared_ptr<std::vector<std::byte>> from, Queue queue) {
    auto work = [to, from] { std::memcpy(to, from->data(), from->size()); };
    if (queue == Queue::Compute) return run(work);
    copies_.push_back(work);
  }
  void run(std::function<void()> work) {
    if (capturing_)
      capturing_->operations.push_back(std::move(work));
    else
      work();
  }
  void drain(uint64_t place) {
    while (copies_taken_ < place) {
      copies_.front()();
      copies_.pop_front();
      ++copies_taken_;
    }
  }

  void product(const Product& p) {
    run([=] {
      for (int64_t r = 0; r < p.m; ++r)
        for (int64_t i = 0; i < p.n; ++i) {
          float sum = 0;
          for (int64_t j = 0; j < p.k; ++j)
            sum += value(p.x, r * p.k + j) * value(p.w, i * p.k + j);
          if (p.y)
            store(p.y, r * p.n + i, sum);
          else
            p.y32[r * p.n + i] = sum + (p.write == cuda::Write::Add ? p.y32[r * p.n + i] : 0);
        }
    });
  }

  int64_t memory_, used_ = 0;
  FakeGpuCounts own_counts_;
  FakeGpuCounts& counts_;
  const std::function<void()> at_launch_;
  const double guessed_;
  Blocks device_, host_;
  std::deque<std::function<void()>> copies_;  // of the copy queue, not run yet
  uint64_t copies_taken_ = 0;
  uint64_t questions_ = 0;  // about points that have not been reached
  std::map<const float*, std::vector<FakeCopy>> copies_of_;  // of the lookup that works there
  std::unique_ptr<FakeGraph> capturing_;
};

}  // namespace

std::unique_ptr<kernels::Gpu> make_fake_gpu(int64_t memory_bytes, FakeGpuCounts* counts,
                                            std::function<void()> at_launch, double guessed) {
  return std::make_unique<FakeGpu>(memory_bytes, counts, std::move(at_launch), guessed);
}

}  // namespace ringtide::testing

#include "tests/support/fake_gpu.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>
#include <unordered_map>
#include <vector>

#include "kernels/half.h"
#include "tests/support/fake_ring.h"

namespace ringtide::testing {
namespace {

using namespace kernels;        // NOLINT: the whole file is about these
using namespace kernels::cuda;  // NOLINT

using Half = uint16_t;  // the bits of a bf16

float value(const bf16* p, int64_t i) { return bfloat_to_float(reinterpret_cast<const Half*>(p)[i]); }

void store(bf16* p, int64_t i, float f) {
  reinterpret_cast<Half*>(p)[i] = float_to_bfloat(f);
}

const bf16* at(const bf16* p, int64_t i) {
  return reinterpret_cast<const bf16*>(reinterpret_cast<const Half*>(p) + i);
}
bf16* at(bf16* p, int64_t i) { return reinterpret_cast<bf16*>(reinterpret_cast<Half*>(p) + i); }

float dot(const bf16* a, const bf16* b, int n) {
  float sum = 0;
  for (int j = 0; j < n; ++j) sum += value(a, j) * value(b, j);
  return sum;
}

struct FakeEvent : Gpu::Event {
  bool recorded = false;
  Gpu::Queue queue = Gpu::Queue::Compute;
  uint64_t place = 0;  // operations of the queue before it
};
struct FakeGraph : Gpu::Graph {
  std::vector<std::function<void()>> operations;
};

// Where a query's result goes: o32 in place of o where it is set.
struct Result {
  bf16* o;
  float* o32;
  float* lse;
};
// What it saw before; null: nothing.
struct Before {
  const float* o = nullptr;
  const float* lse = nullptr;
};

// One softmax over all that a query sees, list by list; two passes in float64.
void attend(const Heads& s, int unit, const Arena& arena, const bf16* q_near, const bf16* q_far,
            int64_t p, const Lists& lists, int near_offset, int far_offset, Band near_band,
            Band far_band, float scale, const Before& before, const Result& result) {
  struct Key {
    double logit;
    const bf16* v;
  };
  std::vector<Key> keys;
  std::vector<double> out(s.head_dim);
  for (int h = 0; h < s.heads; ++h) {
    keys.clear();
    const int64_t head = int64_t{h / s.group()} * unit;
    const auto see = [&](const KvList& list, int offset, const bf16* q, Band band) {
      const int32_t n = list.refs && list.count ? *list.count : 0;
      if (n > list.max_count) throw std::logic_error("a list is longer than its bound");
      for (int32_t i = 0; i < n; ++i) {
        const KvRef& r = list.refs[i];
        for (int32_t t = r.begin; t < r.end; ++t) {
          const int64_t distance = p - (r.position + t);
          if (distance < band.nearest || distance > band.farthest) continue;
          const int64_t k = r.k_row + offset + head + t, v = r.v_row + offset + head + t;
          if (k < 0 || k >= arena.rows || v < 0 || v >= arena.rows)
            throw std::logic_error("a block lies outside the arena");
          keys.push_back({scale * dot(at(q, int64_t{h} * s.head_dim),
                                      at(arena.base, k * s.head_dim), s.head_dim),
                          at(arena.base, v * s.head_dim)});
        }
      }
    };
    see(lists.near, near_offset, q_near, near_band);
    see(lists.far, far_offset, q_far, far_band);
    see(lists.units, 0, q_far, far_band);
    double top = before.lse ? before.lse[h] : -std::numeric_limits<double>::infinity();
    const bool seen = !keys.empty() || top > -std::numeric_limits<double>::infinity();
    for (const Key& k : keys) top = std::max(top, k.logit);
    double total = seen && before.lse ? std::exp(before.lse[h] - top) : 0;
    for (int j = 0; j < s.head_dim; ++j)
      out[j] = total > 0 ? total * before.o[int64_t{h} * s.head_dim + j] : 0;
    for (const Key& k : keys) {
      const double w = std::exp(k.logit - top);
      total += w;
      for (int j = 0; j < s.head_dim; ++j) out[j] += w * value(k.v, j);
    }
    for (int j = 0; j < s.head_dim; ++j) {
      const int64_t to = int64_t{h} * s.head_dim + j;
      const float x = seen ? static_cast<float>(out[j] / total) : 0.0f;
      if (result.o32)
        result.o32[to] = x;
      else
        store(result.o, to, x);
    }
    if (result.lse)
      result.lse[h] = seen ? static_cast<float>(top + std::log(total))
                           : -std::numeric_limits<float>::infinity();
  }
}

class FakeGpu final : public Gpu {
 public:
  FakeGpu(int64_t memory, FakeGpuCounts* counts, std::function<void()> at_launch)
      : memory_(memory),
        counts_(counts ? *counts : own_counts_),
        at_launch_(std::move(at_launch)) {}
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
    return !e.recorded || e.queue == Queue::Compute || copies_taken_ >= e.place;
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
          const float a = gate == Gate::Silu
                              ? g / (1 + std::exp(-g))
                              : g / 2 * (1 + std::tanh(0.7978845608f * (g + 0.044715f * g * g * g)));
          store(y, r * n + i, a * up);
        }
    });
  }

  void split_qkv(const Qkv& a) override {
    run([=] {
      const int dim = a.shape.head_dim, half = dim / 2;
      const int heads = a.shape.heads, kv = a.shape.kv_heads;
      std::vector<float> x(dim);
      for (int64_t r = 0; r < a.rows; ++r) {
        const TokenPlace& place = a.place[r];
        for (int h = 0; h < heads + 2 * kv; ++h) {
          const int64_t in = (r * (heads + 2 * kv) + h) * dim;
          for (int j = 0; j < dim; ++j)
            x[j] = value(a.qkv, in + j) + (a.bias ? a.bias[int64_t{h} * dim + j] : 0);
          const float* norm = h < heads ? a.q_norm : h < heads + kv ? a.k_norm : nullptr;
          if (norm) {
            double squares = 0;
            for (float v : x) squares += double{v} * v;
            const float scale = static_cast<float>(1 / std::sqrt(squares / dim + a.norm_eps));
            for (int j = 0; j < dim; ++j) x[j] *= scale * norm[j];
          }
          if (h >= heads)  // rotated as it is kept
            for (float& v : x) v = bfloat_to_float(float_to_bfloat(v));
          const auto rotated = [&](int32_t angle, int j) {
            const float c = a.cos[int64_t{angle} * half + j % half];
            const float s = a.sin[int64_t{angle} * half + j % half];
            return j < half ? x[j] * c - x[j + half] * s : x[j - half] * s + x[j] * c;
          };
          if (h < heads) {
            const int64_t out = (r * heads + h) * dim;
            for (int j = 0; j < dim; ++j) {
              store(a.q_near, out + j, rotated(place.near_angle, j));
              if (a.q_far) store(a.q_far, out + j, rotated(place.far_angle, j));
              if (a.q_raw) store(a.q_raw, out + j, x[j]);
            }
            if (!a.q_lookup) continue;
            for (float& v : x) v = bfloat_to_float(float_to_bfloat(v));
            for (int j = 0; j < dim; ++j)
              store(a.q_lookup, out + j, rotated(a.lookup_angle[r], j));
          } else {
            const int64_t g = int64_t{(h - heads) % kv} * a.unit + a.row_offset;
            for (int j = 0; j < dim; ++j) {
              const auto keep = [&](int32_t to, float value) {
                if (to >= 0) store(a.arena.base, (to + g) * dim + j, value);
              };
              if (h >= heads + kv) {
                keep(place.v_row, x[j]);
                continue;
              }
              keep(place.raw_row, x[j]);
              keep(place.rotated_row, rotated(place.near_angle, j));
            }
          }
        }
      }
    });
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
        attend(a.shape, a.unit, a.arena, at(a.q_near, i * a.q_stride), at(a.q_far, i * a.q_stride),
               a.positions ? a.positions[i / kPositionRun] + i % kPositionRun : a.position + i,
               a.lists, a.lists.near.row_offset, a.lists.far.row_offset, a.near_band, a.far_band,
               a.scale,
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
        attend(a.shape, a.unit, a.arena, at(a.q_near, r * row), at(a.q_far, r * row),
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
            const float c = cos[int64_t{angle[r]} * half + j], s = sin[int64_t{angle[r]} * half + j];
            const float x = mean[h * dim + j], y = mean[h * dim + half + j];
            store(out, r * row + h * dim + j, x * c - y * s);
            store(out, r * row + h * dim + half + j, x * s + y * c);
          }
      }
    });
  }

  void learn(const Learn& a) override {
    run([=] {
      const int dim = a.shape.head_dim;
      const int64_t row = int64_t{a.shape.heads} * dim;
      for (int32_t i = 0; i < a.run_count * a.layers; ++i) {
        const LearnRun& run = a.runs[i % a.run_count];
        const int32_t layer = i / a.run_count;
        const bf16* const q = at(a.q, layer * a.layer_q);
        const int64_t sum_offset = a.sum_offset + layer * row;
        const int64_t logit_offset = a.logit_offset + int64_t{layer} * a.shape.heads * a.unit;
        const int32_t row_offset = a.row_offset + layer * a.layer_rows;
        const auto score = [&](int32_t plane, int64_t position, int32_t end, float* sums) {
          if (!sums) return;
          for (int32_t i = run.q_begin; i < run.q_end; ++i)
            for (int h = 0; h < a.shape.heads; ++h)
              for (int32_t t = 0; t < end; ++t) {
                const int64_t distance = run.q_position + i - run.q_begin - position - t;
                if (distance < 0 || distance >= a.window) continue;
                const int64_t k = plane + row_offset + int64_t{h / a.shape.group()} * a.unit + t;
                sums[logit_offset + int64_t{h} * a.unit + t] +=
                    a.scale * dot(at(q, i * row + int64_t{h} * dim), at(a.arena.base, k * dim), dim);
              }
        };
        if (run.query_sum)
          for (int32_t i = run.q_begin; i < run.q_end; ++i)
            for (int64_t j = 0; j < row; ++j) run.query_sum[sum_offset + j] += value(q, i * row + j);
        score(run.own_row, run.own_position, run.own_end, run.own_sums);
        score(run.leaving_row, run.leaving_position, a.unit, run.leaving_sums);
      }
    });
  }
  void represent(const Represent& a) override {
    run([=] {
      const int dim = a.shape.head_dim;
      const int64_t row = int64_t{a.shape.heads} * dim;
      const int32_t take = std::min(a.take, a.unit - a.begin);
      std::vector<float> score(a.unit);
      std::vector<int32_t> order;
      for (int32_t l = a.first_layer; l < a.end_layer; ++l)
        for (int h = 0; h < a.shape.heads; ++h) {
          const int64_t g = int64_t{h / a.shape.group()} * a.unit + int64_t{l} * a.layer_rows;
          for (int32_t t = 0; t < a.unit; ++t) {
            score[t] = a.logit_sums[(int64_t{l} * a.shape.heads + h) * a.unit + t];
            float logit = 0;
            for (int j = 0; j < dim; ++j) {
              float sum = 0;
              for (int32_t w = 0; w < a.whole; ++w)
                sum += a.query_sums[w][l * row + int64_t{h} * dim + j];
              logit += sum * value(a.arena.base, (a.rotated_row + g + t) * dim + j);
            }
            score[t] += a.scale * logit;
          }
          order.resize(a.unit - a.begin);
          std::iota(order.begin(), order.end(), a.begin);
          std::stable_sort(order.begin(), order.end(),
                           [&](int32_t x, int32_t y) { return score[x] > score[y]; });
          for (int j = 0; j < dim; ++j) {
            float mean = 0;
            for (int32_t i = 0; i < take; ++i)
              mean += value(a.arena.base, (a.raw_row + g + order[i]) * dim + j);
            if (take > 0) mean /= static_cast<float>(take);
            const int64_t to = int64_t{h} * dim + j;
            a.out32[l * row + to] = mean;
            store(a.group, (int64_t{l} * kIndexGroup + a.slot) * row + to, mean);
          }
        }
    });
  }

  int64_t lookup_scratch(const Heads&, int32_t, int32_t, int32_t) const override { return 1; }
  void choose_units(const Lookup& a) override {
    run([=] {
      for (int32_t r = 0; r < a.rows; ++r) choose(a, r);
    });
  }
  void place_units(const Lookup& a) override {
    run([=] {
      for (int32_t r = 0; r < a.rows; ++r) place(a, r);
    });
  }

  int64_t sample_scratch(int32_t, int32_t) const override { return 1; }
  void sample(float* logits, int32_t rows, int32_t vocabulary, const SampleRow* params,
              int32_t* tokens, float*) override {
    run([=] {
      for (int32_t r = 0; r < rows; ++r)
        tokens[r] = sampled(logits + int64_t{r} * vocabulary, vocabulary, params[r]);
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

  static void choose(const Lookup& a, int32_t r) {
    const Memory& m = a.memory[r];
    const int dim = a.shape.head_dim;
    const int64_t row = int64_t{a.shape.heads} * dim;
    if (m.sealed > a.max_sealed || m.select > a.max_select)
      throw std::logic_error("choose_units: more than its bound");
    std::vector<int32_t> units(std::max(0, m.sealed - m.first));
    std::iota(units.begin(), units.end(), m.first);
    if (static_cast<int32_t>(units.size()) > m.select) {
      std::vector<float> relevance(m.sealed), votes(m.sealed);
      for (int h = 0; h < a.shape.heads; ++h) {
        float top = -std::numeric_limits<float>::infinity();
        for (int32_t u : units) {
          votes[u] = dot(at(a.q, r * row + int64_t{h} * dim),
                         at(m.groups[u / kIndexGroup],
                            (int64_t{a.layer} * kIndexGroup + u % kIndexGroup) * row + int64_t{h} * dim),
                         dim);
          top = std::max(top, votes[u]);
        }
        float total = 0;
        const float scale = 1 / std::sqrt(static_cast<float>(dim));
        if (a.vote == Vote::Softmax) {
          for (int32_t u : units) total += votes[u] = std::exp((votes[u] - top) * scale);
          for (int32_t u : units) votes[u] /= total;
        }
        for (int32_t u : units) relevance[u] += votes[u];
      }
      std::stable_sort(units.begin(), units.end(),
                       [&](int32_t x, int32_t y) { return relevance[x] > relevance[y]; });
      units.resize(m.select);
      std::sort(units.begin(), units.end());
    }
    for (int32_t i = 0; i < a.max_select; ++i)
      a.chosen[r * a.max_select + i] = i < static_cast<int32_t>(units.size()) ? units[i] : -1;
  }

  static void place(const Lookup& a, int32_t r) {
    const Memory& m = a.memory[r];
    const Slots& slots = a.slots[r];
    const int64_t plane = int64_t{a.shape.kv_heads} * a.unit;
    const int64_t chunk = 2 * plane * a.shape.head_dim * static_cast<int64_t>(sizeof(Half));
    const int32_t* chosen = a.chosen + r * a.max_select;
    const int64_t now = *a.tick;
    std::vector<int32_t> slot_of(a.max_select, -1);
    std::vector<bool> used(slots.slots);
    for (int32_t i = 0; i < a.max_select && chosen[i] >= 0; ++i)
      for (int32_t s = 0; s < slots.slots; ++s)
        if (slots.unit[s] == chosen[i]) {
          slot_of[i] = s;
          used[s] = true;
        }
    int32_t count = 0, missing = 0;
    for (int32_t i = 0; i < a.max_select; ++i) a.missing[r * a.max_select + i] = -1;
    for (int32_t i = 0; i < a.max_select && chosen[i] >= 0; ++i) {
      const int32_t u = chosen[i];
      const bool fetched = slot_of[i] < 0;
      if (!fetched) {
        ++a.totals[r].hits;
      } else if (!m.payload[u]) {
        ++a.totals[r].missing;
        a.missing[r * a.max_select + missing++] = u;
        continue;
      } else {
        int32_t best = -1;
        for (int32_t s = 0; s < slots.slots; ++s)
          if (!used[s] && (best < 0 || slots.used[s] < slots.used[best])) best = s;
        slot_of[i] = best;
        used[best] = true;
        slots.unit[best] = u;
        std::memcpy(static_cast<void*>(at(a.arena.base, (slots.first_row + best * 2 * plane) *
                                                            a.shape.head_dim)),
                    m.payload[u] + a.layer * chunk, chunk);
        ++a.totals[r].fetched;
      }
      slots.used[slot_of[i]] = fetched ? now : std::max(slots.used[slot_of[i]], now);
      const int32_t k = slots.first_row + static_cast<int32_t>(slot_of[i] * 2 * plane);
      a.refs[r * a.max_select + count++] = {k, static_cast<int32_t>(k + plane), u == 0 ? m.sinks : 0,
                                            a.unit, int64_t{u} * a.unit};
    }
    a.counts[r] = count;
  }

  static int32_t sampled(float* x, int32_t n, const SampleRow& p) {
    if (p.repetition_penalty != 1 && p.repetition_penalty > 0) {
      std::vector<int32_t> seen(p.recent, p.recent + p.recent_count);
      std::sort(seen.begin(), seen.end());
      seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
      for (int32_t t : seen)
        if (t >= 0 && t < n)
          x[t] = x[t] > 0 ? x[t] / p.repetition_penalty : x[t] * p.repetition_penalty;
    }
    std::vector<int32_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return x[a] > x[b]; });
    if (!(p.temperature > 0)) return order[0];
    if (p.top_k > 0 && p.top_k < n) order.resize(p.top_k);
    const double top = x[order[0]];
    const auto weight = [&](int32_t i) { return std::exp((x[i] - top) / p.temperature); };
    if (p.min_p > 0)
      std::erase_if(order, [&](int32_t i) { return weight(i) < std::min(p.min_p, 1.0f); });
    double total = 0, held = 0;
    for (int32_t i : order) total += weight(i);
    if (p.top_p < 1)
      for (size_t i = 0; i < order.size(); ++i)
        if ((held += weight(order[i])) >= p.top_p * total) order.resize(i + 1);
    std::sort(order.begin(), order.end());
    total = 0;
    for (int32_t i : order) total += weight(i);
    double rest = p.uniform * total;
    for (int32_t i : order)
      if ((rest -= weight(i)) < 0) return i;
    return order.back();
  }

  int64_t memory_, used_ = 0;
  FakeGpuCounts own_counts_;
  FakeGpuCounts& counts_;
  const std::function<void()> at_launch_;
  Blocks device_, host_;
  std::deque<std::function<void()>> copies_;  // of the copy queue, not run yet
  uint64_t copies_taken_ = 0;
  std::unique_ptr<FakeGraph> capturing_;
};

}  // namespace

std::unique_ptr<kernels::Gpu> make_fake_gpu(int64_t memory_bytes, FakeGpuCounts* counts,
                                            std::function<void()> at_launch) {
  return std::make_unique<FakeGpu>(memory_bytes, counts, std::move(at_launch));
}

}  // namespace ringtide::testing

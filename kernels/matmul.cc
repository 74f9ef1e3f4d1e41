#include "kernels/matmul.h"

#include <algorithm>
#include <cstring>

#include "kernels/product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul.cc"
#include <hwy/foreach_target.h>
//
#include "kernels/float_rows_inl.h"
#include "kernels/panel_inl.h"
#include "kernels/panel_tasks_inl.h"
#include "kernels/tile_inl.h"

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

constexpr int kTileVectors = 2;
constexpr int64_t kTileOutputs = std::min<int64_t>(kTileVectors * kLanes, kPanel);

// One row: weights go from where they lie straight to the multipliers. Panels are read side by
// side, some inputs of each in turn, of halves: a processor fetches ahead on several streams, and
// gets more out of memory than on one. With float32 one is enough.
constexpr int64_t kStreamOutputs = 4 * kPanel;
constexpr int64_t kStreamInputs = 16;

// More rows share runs of so many inputs, in float32 and in the first cache.
constexpr int64_t kRun = 64;
// Up to so many rows, all of a panel follows; they find their inputs again in the second cache. Of
// more rows a run's inputs are copied there, and used by so many panels.
constexpr int64_t kRereadRows = 64;
constexpr int64_t kGroup = 8;

template <int V>
HWY_INLINE void write_tile(const Product& p, const Tile<1, V, Rows>& tile, int64_t output) {
  HWY_UNROLL(4)
  for (int v = 0; v < V; ++v) {
    const int64_t left = p.w.n - output - v * static_cast<int64_t>(kLanes);
    if (left <= 0) break;
    float* at = p.y + output + v * kLanes;
    Vf sum = tile.sum[0][v];
    if (p.write == Write::Add) sum = hn::Add(load_up_to(at, left), sum);
    store_up_to(sum, at, left);
  }
}

// Inputs [begin, end) of the row with V vectors of outputs, straight from the packed weights.
// Between runs of inputs the sums (kStreamOutputs) wait in memory.
template <class Panel, int V>
HWY_NOINLINE void direct_tile(const Product& p, int64_t output, int64_t begin, int64_t end,
                              float* sums) {
  const int64_t panel = panel_bytes(Panel::kType, p.w.k);
  const std::byte* block =
      p.w.data + output / kPanel * panel + begin / Panel::kBlock * Panel::kBytes;
  Tile<1, V, Rows> tile({p.x, p.w.k});
  if (begin > 0) tile.load_sums(sums, kStreamOutputs);
  for (int64_t k = begin; k < end; k += Panel::kBlock, block += Panel::kBytes) {
    Panel::read(block, panel, output % kPanel, k, p.w.k, tile);
  }
  if (end < p.w.k) {
    tile.store_sums(sums, kStreamOutputs);
  } else {
    write_tile(p, tile, output);
  }
}

// Outputs [begin, end), multiples of the panel's.
template <class Panel>
void direct_outputs(const Product& p, int64_t begin, int64_t end) {
  static_assert(kStreamInputs % Panel::kBlock == 0);
  // One row is few sums: twice the vectors keep the multipliers busy.
  constexpr int64_t kOutputs = 2 * kTileVectors * kLanes;
  const int64_t inputs = Panel::kType == TensorType::F32 ? p.w.k : kStreamInputs;
  alignas(64) float sums[kStreamOutputs];
  for (int64_t first = begin; first < end; first += kStreamOutputs) {
    const int64_t last = std::min(end, first + kStreamOutputs);
    int64_t k = 0;
    do {
      const int64_t next = std::min(p.w.k, k + inputs);
      int64_t output = first;
      for (; output + kOutputs <= last; output += kOutputs) {
        direct_tile<Panel, 2 * kTileVectors>(p, output, k, next, sums + (output - first));
      }
      for (; output < last; output += kTileOutputs) {
        direct_tile<Panel, kTileVectors>(p, output, k, next, sums + (output - first));
      }
      k = next;
    } while (k < p.w.k);
  }
}

template <class Panel>
void direct_product(const Product& p, ThreadPool& threads) {
  const int64_t panels = panel_count(p.w.n);
  const int64_t tasks = std::min<int64_t>(panels, 4 * threads.size());
  threads.parallel_for(tasks, [&](int64_t task, int) {
    const auto first = [&](int64_t t) { return t * panels / tasks * kPanel; };
    direct_outputs<Panel>(p, first(task), first(task + 1));
  });
}

// What a thread works with where rows share weights.
struct alignas(64) Work {
  alignas(64) float sums[kGroup * kChunkRows][kPanel];
  alignas(64) float x[kChunkRows][kRun];
  alignas(64) float weights[kRun][kPanel];
};

// Writes V vectors of each input's weights, inputs kPanel floats apart.
template <int V>
struct Writer {
  static constexpr int kVectors = V;
  float* at;
  HWY_INLINE void operator()(int64_t k, const Vf (&w)[V]) {
    HWY_UNROLL(4)
    for (int v = 0; v < V; ++v) hn::StoreU(w[v], Df(), at + k * kPanel + v * kLanes);
  }
};

// The weights of n inputs from `data` on, (n, kPanel): where they lie, or written to `to`.
template <class Panel>
const float* in_float32(const std::byte* data, int64_t n, float* to) {
  if constexpr (Panel::kType == TensorType::F32) return reinterpret_cast<const float*>(data);
  for (int64_t column = 0; column < kPanel; column += kTileOutputs) {
    Writer<kTileVectors> writer{to + column};
    const std::byte* block = data;
    for (int64_t k = 0; k < n; k += Panel::kBlock, block += Panel::kBytes) {
      Panel::read(block, 0, column, k, n, writer);
    }
  }
  return to;
}

// Inputs [k, k + n) of the task's rows side by side, (rows, kRun), however long a row is.
void copy_inputs(const Product& p, const PanelTask& task, int64_t k, int64_t n, float* to) {
  for (int64_t row = task.begin; row < task.end; ++row, to += kRun) {
    std::memcpy(to, p.x + row * p.w.k + k, n * sizeof(float));
  }
}

// The task's rows by panels [first, first + count), run by run.
template <class Panel>
void multiply_group(const Product& p, const PanelTask& task, int64_t first, int64_t count,
                    bool copy, Work& work) {
  constexpr int64_t kInputBytes = Panel::kBytes / Panel::kBlock;
  static_assert(kRun % Panel::kBlock == 0);
  const int64_t inputs = p.w.k, bytes = panel_bytes(Panel::kType, inputs), rows = task.rows();
  std::memset(work.sums, 0, count * rows * sizeof work.sums[0]);
  FloatRun run;
  run.stride = copy ? kRun : inputs;
  run.rows = rows;
  run.ahead_bytes = kInputBytes;
  for (int64_t k = 0; k < inputs; k += kRun) {
    run.inputs = std::min(kRun, inputs - k);
    run.x = copy ? work.x[0] : p.x + task.begin * inputs + k;
    if (copy) copy_inputs(p, task, k, run.inputs, work.x[0]);
    const std::byte* data = p.w.data + first * bytes + k * kInputBytes;
    for (int64_t i = 0; i < count; ++i) {
      run.weights = in_float32<Panel>(data + i * bytes, run.inputs, work.weights[0]);
      run.sums = work.sums + i * rows;
      // This run of the next panel, or the next run of the first: of one panel that is what
      // follows.
      run.ahead = i + 1 < count ? data + (i + 1) * bytes : data + kRun * kInputBytes;
      add_float_run(run);
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    write_sums(p, first + i, task.begin, task.end, work.sums + i * rows);
  }
}

template <class Panel>
void shared_product(const Product& p, ThreadPool& threads) {
  const bool copy = p.m > kRereadRows;
  for_each_task(p, threads, [&](const PanelTask& task, int thread) {
    auto& work = *reinterpret_cast<Work*>(threads.scratch(thread, sizeof(Work)));
    for (int64_t panel = task.first, count; panel < task.last; panel += count) {
      count = copy ? std::min(kGroup, task.last - panel) : 1;
      multiply_group<Panel>(p, task, panel, count, copy, work);
    }
  });
}

template <class Panel>
void product(const Product& p, ThreadPool& threads) {
  if (p.m == 1) {
    direct_product<Panel>(p, threads);
  } else {
    shared_product<Panel>(p, threads);
  }
}

void multiply_plain(const Product& p, ThreadPool& threads) {
  switch (p.w.type) {
    case TensorType::F32:
      return product<PanelF32>(p, threads);
    case TensorType::F16:
      return product<PanelF16>(p, threads);
    case TensorType::BF16:
#if HWY_TARGET == HWY_AVX3
      if (p.w.activations != ActivationType::F32 && has_bfloat_products()) {
        return multiply_bfloat(p, threads);
      }
#endif
      return product<PanelBF16>(p, threads);
    default:
      return;
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {

HWY_EXPORT(multiply_plain);

void matmul(const float* x, int64_t m, const PackedMatrix& w, float* y, Write write,
            ThreadPool& threads) {
  if (m <= 0 || w.n <= 0) return;
  const Product p{x, m, w, y, write};
  if (coding(w.type).bits > 0) return multiply_coded(p, threads);
  HWY_DYNAMIC_DISPATCH(multiply_plain)(p, threads);
}

}  // namespace ringtide::kernels
#endif  // HWY_ONCE

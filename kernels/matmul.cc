#include "kernels/matmul.h"

#include <algorithm>

#include "kernels/product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul.cc"
#include <hwy/foreach_target.h>
//
#include "kernels/panel_inl.h"
#include "kernels/tile_inl.h"

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

constexpr int kTileVectors = 2;
constexpr int64_t kTileOutputs = std::min<int64_t>(kTileVectors * kLanes, kPanel);
// Up to this many rows the weights are read where they lie; for more, a panel is first written out
// in float32 and then used for all of them.
constexpr int64_t kDirectRows = 4;
// Panels that are read side by side, and inputs of each in turn, of halves: a processor fetches ahead
// on several streams, and gets more out of memory than on one. With float32 one is enough.
constexpr int64_t kStreamOutputs = 4 * kPanel;
constexpr int64_t kStreamInputs = 16;
// Rows that share one written-out panel.
constexpr int64_t kChunkRows = 12 * 12;

template <int R, int V>
HWY_INLINE void write_tile(const Product& p, const Tile<R, V, Rows>& tile, int64_t row,
                           int64_t output) {
  HWY_UNROLL(16)
  for (int r = 0; r < R; ++r) {
    float* y = p.y + (row + r) * p.w.n + output;
    HWY_UNROLL(4)
    for (int v = 0; v < V; ++v) {
      const int64_t left = p.w.n - output - v * static_cast<int64_t>(kLanes);
      if (left <= 0) break;
      float* at = y + v * kLanes;
      Vf sum = tile.sum[r][v];
      if (p.write == Write::Add) sum = hn::Add(load_up_to(at, left), sum);
      store_up_to(sum, at, left);
    }
  }
}

// Inputs [begin, end) of the R rows of x with V vectors of outputs, straight from the packed weights.
// Between runs of inputs the sums (R, kStreamOutputs) wait in memory.
template <class Panel, int R, int V>
HWY_NOINLINE void direct_tile(const Product& p, int64_t output, int64_t begin, int64_t end,
                              float* sums) {
  const int64_t panel = panel_bytes(Panel::kType, p.w.k);
  const std::byte* block =
      p.w.data + output / kPanel * panel + begin / Panel::kBlock * Panel::kBytes;
  Tile<R, V, Rows> tile({p.x, p.w.k});
  if (begin > 0) tile.load_sums(sums, kStreamOutputs);
  for (int64_t k = begin; k < end; k += Panel::kBlock, block += Panel::kBytes) {
    Panel::read(block, panel, output % kPanel, k, p.w.k, tile);
  }
  if (end < p.w.k) {
    tile.store_sums(sums, kStreamOutputs);
  } else {
    write_tile(p, tile, 0, output);
  }
}

// Outputs [begin, end), multiples of the panel's.
template <class Panel>
struct Direct {
  static_assert(kStreamInputs % Panel::kBlock == 0);
  const Product& p;
  int64_t begin, end;
  template <int R>
  HWY_INLINE void operator()() const {
    // Few rows are few sums: twice the vectors keep the multipliers busy.
    constexpr int kVectors = R <= 2 ? 2 * kTileVectors : kTileVectors;
    constexpr int64_t kOutputs = kVectors * kLanes;
    const int64_t inputs = Panel::kType == TensorType::F32 ? p.w.k : kStreamInputs;
    alignas(64) float sums[R][kStreamOutputs];
    for (int64_t first = begin; first < end; first += kStreamOutputs) {
      const int64_t last = std::min(end, first + kStreamOutputs);
      int64_t k = 0;
      do {
        const int64_t next = std::min(p.w.k, k + inputs);
        int64_t output = first;
        for (; output + kOutputs <= last; output += kOutputs) {
          direct_tile<Panel, R, kVectors>(p, output, k, next, sums[0] + (output - first));
        }
        for (; output < last; output += kTileOutputs) {
          direct_tile<Panel, R, kTileVectors>(p, output, k, next, sums[0] + (output - first));
        }
        k = next;
      } while (k < p.w.k);
    }
  }
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

// The weights of a panel in float32, (k, kPanel).
template <class Panel>
const float* written_panel(const PackedMatrix& w, int64_t panel, float* weights) {
  const int64_t bytes = panel_bytes(Panel::kType, w.k);
  const std::byte* data = w.data + panel * bytes;
  if constexpr (Panel::kType == TensorType::F32) return reinterpret_cast<const float*>(data);
  for (int64_t column = 0; column < kPanel; column += kTileOutputs) {
    Writer<kTileVectors> writer{weights + column};
    const std::byte* block = data;
    for (int64_t k = 0; k < w.k; k += Panel::kBlock, block += Panel::kBytes) {
      Panel::read(block, 0, column, k, w.k, writer);
    }
  }
  return weights;
}

struct Written {
  const Product& p;
  const float* weights;  // of the panel, at the first output
  int64_t row, output;
  template <int R>
  HWY_NOINLINE void operator()() const {
    Tile<R, kTileVectors, Rows> tile({p.x + row * p.w.k, p.w.k});
    tile.add(weights, kPanel, 0, p.w.k);
    write_tile(p, tile, row, output);
  }
};

template <class Panel>
void direct_product(const Product& p, ThreadPool& threads) {
  const int64_t panels = panel_count(p.w.n);
  const int64_t tasks = std::min<int64_t>(panels, 4 * threads.size());
  threads.parallel_for(tasks, [&](int64_t task, int) {
    const auto first = [&](int64_t t) { return t * panels / tasks * kPanel; };
    with_rows(p.m, Direct<Panel>{p, first(task), first(task + 1)});
  });
}

template <class Panel>
void written_product(const Product& p, ThreadPool& threads) {
  const int64_t panels = panel_count(p.w.n);
  const int64_t chunks = (p.m + kChunkRows - 1) / kChunkRows;
  const int64_t tiles = (p.m + kTileRows - 1) / kTileRows;
  threads.parallel_for(chunks * panels, [&](int64_t task, int thread) {
    const int64_t chunk = task / panels, panel = task % panels;
    float* scratch =
        reinterpret_cast<float*>(threads.scratch(thread, p.w.k * kPanel * sizeof(float)));
    const float* weights = written_panel<Panel>(p.w, panel, scratch);
    const int64_t end = std::min(p.m, (chunk + 1) * tiles / chunks * kTileRows);
    for (int64_t row = chunk * tiles / chunks * kTileRows; row < end;) {
      int height = 0;
      for (int64_t column = 0; column < kPanel; column += kTileOutputs) {
        const int64_t output = panel * kPanel + column;
        if (output >= p.w.n) break;
        height = with_rows(end - row, Written{p, weights + column, row, output});
      }
      row += height;
    }
  });
}

template <class Panel>
void product(const Product& p, ThreadPool& threads) {
  if (p.m <= kDirectRows) {
    direct_product<Panel>(p, threads);
  } else {
    written_product<Panel>(p, threads);
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

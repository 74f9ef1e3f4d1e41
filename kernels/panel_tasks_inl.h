// Products whose rows share what was read of a panel: which rows and panels are a thread's task,
// and how sums that waited in memory become results.
#include <algorithm>

#include "kernels/panel.h"
#include "kernels/product.h"
#include "kernels/simd_inl.h"

#if defined(RINGTIDE_KERNELS_PANEL_TASKS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_PANEL_TASKS_INL_H
#undef RINGTIDE_KERNELS_PANEL_TASKS_INL_H
#else
#define RINGTIDE_KERNELS_PANEL_TASKS_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

constexpr int64_t kWholeRows = 12;  // a chunk of rows is whole tiles
constexpr int64_t kChunkRows = 12 * kWholeRows;
// Up to so many rows, a thread takes many panels that follow each other: memory is what limits. Of
// more rows it takes fewer, so that none has to wait for another.
constexpr int64_t kFewRows = 16;
constexpr int64_t kTaskPanels = 8;

// Rows [begin, end), at most kChunkRows, by panels [first, last).
struct PanelTask {
  int64_t begin, end, first, last;
  int64_t rows() const { return end - begin; }
};

// Calls f(task, thread) for every task of the product.
template <class F>
void for_each_task(const Product& p, ThreadPool& threads, const F& f) {
  const int64_t panels = panel_count(p.w.n);
  const int64_t chunks = (p.m + kChunkRows - 1) / kChunkRows;
  const int64_t tiles = (p.m + kWholeRows - 1) / kWholeRows;
  const int64_t least = p.m <= kFewRows ? 1 : (panels + kTaskPanels - 1) / kTaskPanels;
  const int64_t parts = std::min<int64_t>(panels, std::max<int64_t>(least, 4 * threads.size()));
  threads.parallel_for(chunks * parts, [&](int64_t i, int thread) {
    const int64_t chunk = i / parts, part = i % parts;
    const int64_t begin = chunk * tiles / chunks * kWholeRows;
    const int64_t end = (chunk + 1) * tiles / chunks * kWholeRows;
    f(PanelTask{begin, std::min(p.m, end), part * panels / parts, (part + 1) * panels / parts},
      thread);
  });
}

// What rows [begin, end) have summed up for the panel goes where the product is written.
HWY_INLINE void write_sums(const Product& p, int64_t panel, int64_t begin, int64_t end,
                           const float (*sums)[kPanel]) {
  const int64_t outputs = std::min(kPanel, p.w.n - panel * kPanel);
  for (int64_t row = begin; row < end; ++row) {
    float* y = p.y + row * p.w.n + panel * kPanel;
    for (int64_t i = 0; i < outputs; i += kLanes) {
      Vf sum = load(sums[row - begin] + i);
      if (p.write == Write::Add) sum = hn::Add(load_up_to(y + i, outputs - i), sum);
      store_up_to(sum, y + i, outputs - i);
    }
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

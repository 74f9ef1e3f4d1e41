// Products with weights of coded types: a panel is taken apart some inputs at a time, in the first
// cache, and then used for all rows of a chunk, whose sums wait in memory meanwhile.
#include <algorithm>
#include <cstring>

#include "kernels/integer_rows.h"
#include "kernels/integer_tile.h"
#include "kernels/product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/coded_matmul.cc"
#include <hwy/foreach_target.h>
//
#include "kernels/float_rows_inl.h"
#include "kernels/integer_tile_inl.h"
#include "kernels/panel_tasks_inl.h"
#include "kernels/unpack_inl.h"

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

// Up to so many rows, taking a panel apart in memory costs more than it saves.
constexpr int64_t kPanelRows = 4;
static_assert(kByteRows <= kPanelRows);  // tiles know bytes with VNNI alone

// What a thread works with.
struct alignas(64) Work {
  Unpacked unpacked;
  alignas(64) float sums[kChunkRows][kPanel];
  alignas(64) float weights[kUnpacked][kPanel];  // of float32 products
};

// Inputs [k, k + n) of the panel, taken apart, by rows [begin, end).
struct Step {
  const Product& p;
  Coding coding;
  int64_t begin, end, k, n;
};

// Every weight exactly as dequantize() gives it.
HWY_NOINLINE void write_weights(const Coding& coding, const Unpacked& from, int64_t n,
                                float (*weights)[kPanel]) {
  const Vf offset = hn::Set(Df(), -static_cast<float>(byte_offset(coding)));
  const Vu byte = hn::Set(Du(), 255);
  for (int64_t k = 0; k < n; k += 4) {
    const int64_t part = k / coding.per_scale;
    for (int64_t column = 0; column < kPanel; column += kLanes) {
      Vu word = hn::LoadU(Du(), reinterpret_cast<const uint32_t*>(from.code[k / 4][column]));
      const Vf scale = load(from.scale[part] + column);
      const Vf base = coding.minimum ? load(from.base[part] + column) : hn::Mul(offset, scale);
      HWY_UNROLL(4)
      for (int i = 0; i < 4; ++i) {
        const Vf code = hn::ConvertTo(Df(), hn::BitCast(Di(), hn::And(word, byte)));
        hn::StoreU(hn::MulAdd(code, scale, base), Df(), weights[k + i] + column);
        word = hn::ShiftRight<8>(word);
      }
    }
  }
}

void float_step(const Step& step, Work& work) {
  write_weights(step.coding, work.unpacked, step.n, work.weights);
  add_float_run({step.p.x + step.begin * step.p.w.k + step.k, step.p.w.k, step.end - step.begin,
                 work.weights[0], step.n, work.sums});
}

void integer_step(const Step& step, const IntegerRows& x, Work& work) {
  const Coding& c = step.coding;
  IntegerTile t;
  t.x = x;
  t.k = step.p.w.k;
  t.row = step.begin;
  t.input = step.k;
  t.code = work.unpacked.code[0][0];
  t.scale = work.unpacked.scale[0];
  t.base = work.unpacked.base[0];
  t.parts = step.n / c.per_scale;
  t.part_groups = c.per_scale / 4;
  t.row_parts = t.k / c.per_scale;
  t.first_part = t.input / c.per_scale;
  t.sums = work.sums[0];
  const int64_t rows = step.end - step.begin;
#if HWY_TARGET == HWY_AVX3
  if (x.high) return vnni_tile(t, rows);
#endif
  integer_tile(t, rows);
}

// All rows, at most kPanelRows, by panels from number `panel` on.
void few_rows(const Product& p, const IntegerRows& x, int64_t panel, const Panels& panels,
              Work& work) {
  static_assert(kPanelRows * kPanelStreams <= kChunkRows);
  std::memset(work.sums, 0, p.m * panels.count * sizeof work.sums[0]);
  IntegerTile t{};
  t.x = x;
  t.k = p.w.k;
  t.sums = work.sums[0];
  integer_panels(p.w.type, t, p.m, panels);
  for (int i = 0; i < panels.count; ++i) write_sums(p, panel + i, 0, p.m, work.sums + i * p.m);
}

using Unpack = void (*)(const std::byte* panel, int64_t k, int64_t n, Unpacked& to);

Unpack unpack_of(TensorType type) {
  switch (type) {
    case TensorType::F32:
    case TensorType::F16:
    case TensorType::BF16:
      return nullptr;
    case TensorType::Q8_0:
      return unpack<TensorType::Q8_0>;
    case TensorType::Q4_0:
      return unpack<TensorType::Q4_0>;
    case TensorType::Q4_1:
      return unpack<TensorType::Q4_1>;
    case TensorType::Q5_0:
      return unpack<TensorType::Q5_0>;
    case TensorType::Q5_1:
      return unpack<TensorType::Q5_1>;
    case TensorType::Q2_K:
      return unpack<TensorType::Q2_K>;
    case TensorType::Q3_K:
      return unpack<TensorType::Q3_K>;
    case TensorType::Q4_K:
      return unpack<TensorType::Q4_K>;
    case TensorType::Q5_K:
      return unpack<TensorType::Q5_K>;
    case TensorType::Q6_K:
      return unpack<TensorType::Q6_K>;
    case TensorType::IQ4_NL:
      return unpack<TensorType::IQ4_NL>;
    case TensorType::IQ4_XS:
      return unpack<TensorType::IQ4_XS>;
  }
  return nullptr;
}

// `x` null: float32 activations. `own` is the calling thread's memory, a Work.
void coded_product(const Product& p, const IntegerRows* x, std::byte* own, ThreadPool& threads) {
  const Unpack unpack = unpack_of(p.w.type);
  const Coding c = coding(p.w.type);
  const int64_t bytes = panel_bytes(p.w.type, p.w.k);
  for_each_task(p, threads, [&](const PanelTask& task, int thread) {
    auto& work =
        *reinterpret_cast<Work*>(thread == 0 ? own : threads.scratch(thread, sizeof(Work)));
    for (int64_t panel = task.first, next_panel; panel < task.last; panel = next_panel) {
      if (x && p.m <= kPanelRows) {
        next_panel = std::min(task.last, panel + kPanelStreams);
        few_rows(p, *x, panel,
                 {p.w.data + panel * bytes, bytes, static_cast<int>(next_panel - panel)}, work);
        continue;
      }
      next_panel = panel + 1;
      std::memset(work.sums, 0, task.rows() * sizeof work.sums[0]);
      for (int64_t k = 0; k < p.w.k; k += kUnpacked) {
        const int64_t n = std::min(kUnpacked, p.w.k - k);
        const std::byte* data = p.w.data + panel * bytes;
        unpack(data, k, n, work.unpacked);
        // What is taken apart next, perhaps of the next panel, comes while this is multiplied.
        const int64_t run = kUnpacked / c.elements * coded_bytes(c);
        const std::byte* next = data + (k + n) / c.elements * coded_bytes(c);
        for (int64_t line = 0; line < run; line += 64) __builtin_prefetch(next + line, 0, 2);
        const Step step{p, c, task.begin, task.end, k, n};
        x ? integer_step(step, *x, work) : float_step(step, work);
      }
      write_sums(p, panel, task.begin, task.end, work.sums);
    }
  });
}

int64_t work_bytes() { return sizeof(Work); }

// Whether products of m rows of integers with such weights are byte-wise.
bool takes_bytes(int64_t m, const Coding& weights) {
  if (HWY_TARGET == HWY_AVX3 && has_vnni()) return true;
  return m <= kByteRows && takes_byte_pairs(weights);
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {

HWY_EXPORT(coded_product);
HWY_EXPORT(work_bytes);
HWY_EXPORT(takes_bytes);

void multiply_coded(const Product& p, ThreadPool& threads) {
  const Coding c = coding(p.w.type);
  const bool integers = p.w.activations != ActivationType::F32;
  const IntegerForm form{.wide = p.w.activations == ActivationType::Int16,
                         .bytes = HWY_DYNAMIC_DISPATCH(takes_bytes)(p.m, c)};
  const size_t row_bytes = integers ? integer_rows_bytes(p.m, p.w.k, c, form) : 0;
  std::byte* own = threads.scratch(0, row_bytes + HWY_DYNAMIC_DISPATCH(work_bytes)());
  IntegerRows rows;
  if (integers) rows = make_rows(p.x, p.m, p.w.k, c, form, own, threads);
  HWY_DYNAMIC_DISPATCH(coded_product)(p, integers ? &rows : nullptr, own + row_bytes, threads);
}

}  // namespace ringtide::kernels
#endif  // HWY_ONCE

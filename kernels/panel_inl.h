// Readers of packed panels of types without codes: each hands weights to a sink, input by input.
//
// A sink says how many vectors of outputs it takes (kVectors) and is called with (k, weights).
// `p` points to the panel's input k, at the first of these outputs; vectors past the panel's end
// continue in the next panel, `panel` bytes further.
#include "kernels/panel.h"
#include "kernels/simd_inl.h"

#if defined(RINGTIDE_KERNELS_PANEL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_PANEL_INL_H
#undef RINGTIDE_KERNELS_PANEL_INL_H
#else
#define RINGTIDE_KERNELS_PANEL_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

// Outputs of vector v of a block: one T each, from the column of vector 0.
template <class T>
HWY_INLINE const T* outputs(const std::byte* p, int64_t panel, int64_t column, int v) {
  constexpr int kPerPanel = kPanel / kLanes;
  const std::byte* base = p + (v / kPerPanel) * panel;
  return reinterpret_cast<const T*>(base) + column + v % kPerPanel * kLanes;
}

// One input a step.
template <class T, TensorType kType_>
struct PlainPanel {
  static constexpr TensorType kType = kType_;
  static constexpr int64_t kBlock = 1;
  static constexpr int64_t kBytes = kPanel * sizeof(T);

  template <class Sink>
  static HWY_INLINE void read(const std::byte* p, int64_t panel, int64_t column, int64_t k, int64_t,
                              Sink& sink) {
    Vf w[Sink::kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < Sink::kVectors; ++v) w[v] = load(outputs<T>(p, panel, column, v));
    sink(k, w);
  }
};
using PanelF32 = PlainPanel<float, TensorType::F32>;
using PanelF16 = PlainPanel<uint16_t, TensorType::F16>;

// Two inputs a step: a bfloat16 is the upper half of its float32.
struct PanelBF16 {
  static constexpr TensorType kType = TensorType::BF16;
  static constexpr int64_t kBlock = 2;
  static constexpr int64_t kBytes = kPanel * 4;

  template <class Sink>
  static HWY_INLINE void read(const std::byte* p, int64_t panel, int64_t column, int64_t k,
                              int64_t end, Sink& sink) {
    Vu pairs[Sink::kVectors];
    Vf w[Sink::kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < Sink::kVectors; ++v) {
      pairs[v] = hn::LoadU(Du(), outputs<uint32_t>(p, panel, column, v));
      w[v] = hn::BitCast(Df(), hn::ShiftLeft<16>(pairs[v]));
    }
    sink(k, w);
    if (k + 1 == end) return;
    HWY_UNROLL(4)
    for (int v = 0; v < Sink::kVectors; ++v) {
      w[v] = hn::BitCast(Df(), hn::And(pairs[v], hn::Set(Du(), 0xffff0000u)));
    }
    sink(k + 1, w);
  }
};

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

// Readers of packed panels: each hands the weights of a block to a sink, input by input.
//
// A sink says how many vectors of outputs it takes (kVectors) and is called with (k, weights).
// `p` points to the block, at the first of these outputs; vectors past the panel's end continue in
// the next panel, `panel` bytes further.
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

// Outputs of vector v of a block: `bytes` each, from the column of vector 0.
template <class T>
HWY_INLINE const T* outputs(const std::byte* p, int64_t panel, int64_t column, int v) {
  constexpr int kPerPanel = kPanel / kLanes;
  const std::byte* base = p + (v / kPerPanel) * panel;
  return reinterpret_cast<const T*>(base) + column + v % kPerPanel * kLanes;
}

HWY_INLINE Vf load_bfloat(const uint16_t* p) {
  const hn::Rebind<uint16_t, Df> d16;
  return hn::BitCast(Df(), hn::ShiftLeft<16>(hn::PromoteTo(Du(), hn::LoadU(d16, p))));
}

struct PanelF32 {
  static constexpr TensorType kType = TensorType::F32;
  static HWY_INLINE Vf value(const float* p) { return load(p); }
  using Element = float;
};
struct PanelF16 {
  static constexpr TensorType kType = TensorType::F16;
  static HWY_INLINE Vf value(const uint16_t* p) { return load_half(p); }
  using Element = uint16_t;
};
struct PanelBF16 {
  static constexpr TensorType kType = TensorType::BF16;
  static HWY_INLINE Vf value(const uint16_t* p) { return load_bfloat(p); }
  using Element = uint16_t;
};

// Types without blocks.
template <class Format>
struct PlainPanel {
  static constexpr TensorType kType = Format::kType;
  static constexpr int64_t kBlock = 1;
  static constexpr int64_t kBytes = kPanel * sizeof(typename Format::Element);

  template <class Sink>
  static HWY_INLINE void read(const std::byte* p, int64_t panel, int64_t column, int64_t k,
                              Sink& sink) {
    Vf w[Sink::kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < Sink::kVectors; ++v) {
      w[v] = Format::value(outputs<typename Format::Element>(p, panel, column, v));
    }
    sink(k, w);
  }
};

struct PanelQ8_0 {
  static constexpr TensorType kType = TensorType::Q8_0;
  static constexpr int64_t kBlock = 32;
  static constexpr int64_t kBytes = kPanel * 34;

  template <class Sink>
  static HWY_INLINE void read(const std::byte* p, int64_t panel, int64_t column, int64_t k,
                              Sink& sink) {
    constexpr int kVectors = Sink::kVectors;
    const hn::Rebind<int8_t, Df> d8;
    Vf scale[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      scale[v] = load_half(outputs<uint16_t>(p, panel, column, v));
    }
    const std::byte* q = p + kPanel * 2;
    HWY_UNROLL(4)
    for (int i = 0; i < kBlock; ++i) {
      Vf w[kVectors];
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) {
        const auto bytes = hn::LoadU(d8, outputs<int8_t>(q + i * kPanel, panel, column, v));
        w[v] = hn::Mul(scale[v], hn::ConvertTo(Df(), hn::PromoteTo(Di(), bytes)));
      }
      sink(k + i, w);
    }
  }
};

// The lowest nibble of each lane as a float.
struct Nibbles {
#if HWY_TARGET == HWY_AVX3
  // A permutation looks at the lowest four bits of each index alone: one instruction.
  Vf table;
  HWY_INLINE Nibbles() : table(hn::ConvertTo(Df(), hn::Iota(Di(), 0))) {}
  HWY_INLINE Vf operator()(Vu w) const {
    return hn::TableLookupLanes(table, hn::Indices512<float>{w.raw});
  }
#else
  HWY_INLINE Vf operator()(Vu w) const {
    return hn::ConvertTo(Df(), hn::BitCast(Di(), hn::And(w, hn::Set(Du(), 15))));
  }
#endif
};

// d q + m: the product of a half and four bits is exact, so the fused sum rounds like the plain
// one.
template <bool kMinimum>
struct PanelQ4 {
  static constexpr TensorType kType = kMinimum ? TensorType::Q4_1 : TensorType::Q4_0;
  static constexpr int64_t kBlock = 32;
  static constexpr int64_t kBytes = kPanel * (kMinimum ? 20 : 18);

  template <class Sink>
  static HWY_INLINE void read(const std::byte* p, int64_t panel, int64_t column, int64_t k,
                              Sink& sink) {
    constexpr int kVectors = Sink::kVectors;
    const Nibbles nibbles;
    Vf scale[kVectors], minimum[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      const uint16_t* halves = outputs<uint16_t>(p, panel, column, v);
      scale[v] = load_half(halves);
      minimum[v] = kMinimum ? load_half(halves + kPanel) : hn::Mul(hn::Set(Df(), -8.f), scale[v]);
    }
    const std::byte* words = p + kPanel * (kMinimum ? 4 : 2);
    HWY_UNROLL(1)
    for (int g = 0; g < 4; ++g) {
      Vu word[kVectors];
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) {
        word[v] = hn::LoadU(Du(), outputs<uint32_t>(words + g * kPanel * 4, panel, column, v));
      }
      HWY_UNROLL(8)
      for (int j = 0; j < 8; ++j) {
        Vf w[kVectors];
        HWY_UNROLL(4)
        for (int v = 0; v < kVectors; ++v) {
          w[v] = hn::MulAdd(nibbles(word[v]), scale[v], minimum[v]);
          word[v] = hn::ShiftRight<4>(word[v]);
        }
        sink(k + g * 8 + j, w);
      }
    }
  }
};

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

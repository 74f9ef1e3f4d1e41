// Packed panels of coded types taken apart again, some inputs at a time: codes as bytes, scales and
// minima in float32. What products of either kind start from.
#include "kernels/panel.h"
#include "kernels/simd_inl.h"

#if defined(RINGTIDE_KERNELS_UNPACK_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_UNPACK_INL_H
#undef RINGTIDE_KERNELS_UNPACK_INL_H
#else
#define RINGTIDE_KERNELS_UNPACK_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

// Inputs of a panel that are taken apart together: whole blocks of every type.
constexpr int64_t kUnpacked = 256;

// value = scale * (code - offset) + base, where base is 0 for types without minima.
struct Unpacked {
  alignas(64) uint8_t code[kUnpacked / 4][kPanel][4];
  alignas(64) float scale[kUnpacked / 16][kPanel];  // [inputs / per_scale]
  alignas(64) float base[kUnpacked / 16][kPanel];   // as scale; of types with minima only
};

// By what these codes exceed the levels: of types with a table they are the levels' bytes.
constexpr int byte_offset(const Coding& c) { return c.table ? kLevelOffset : c.offset; }

// The bits of one plane at group t, moved up by kUp.
template <int kBits, int kUp>
HWY_INLINE Vu plane_bits(const std::byte* plane, int t, int64_t column) {
  const auto* words = reinterpret_cast<const uint32_t*>(plane) + t % kBits * kPanel + column;
  const Vu word = hn::LoadU(Du(), words);
  if constexpr (kBits == 8) return word;
  constexpr uint32_t kMask = ((1u << kBits) - 1) * 0x01010101u << kUp;
  const int right = kBits * (t / kBits) - kUp;
  const Vu moved = right >= 0 ? hn::ShiftRightSame(word, right) : hn::ShiftLeftSame(word, -right);
  return hn::And(moved, hn::Set(Du(), kMask));
}

// The level of each byte's code, as an unsigned byte.
HWY_INLINE Vu look_up(Vu codes) {
  alignas(64) static constexpr std::array<uint8_t, 16> kTable = level_bytes();
#if HWY_TARGET == HWY_SCALAR
  uint32_t bytes = 0;
  for (int i = 0; i < 32; i += 8) bytes |= uint32_t{kTable[hn::GetLane(codes) >> i & 15]} << i;
  return hn::Set(Du(), bytes);
#else
  const hn::Repartition<uint8_t, Df> d8;
  const auto table = hn::LoadDup128(d8, kTable.data());
  return hn::BitCast(Du(), hn::TableLookupBytes(table, hn::BitCast(d8, codes)));
#endif
}

// Codes of group t of four inputs, a byte each, of the planes of 32 inputs.
template <TensorType kType>
HWY_INLINE Vu group_codes(const std::byte* planes, int t, int64_t column) {
  constexpr Coding kCoding = coding(kType);
  constexpr int kLow = low_bits(kCoding), kHigh = high_bits(kCoding);
  Vu word = plane_bits<kLow, 0>(planes, t, column);
  if constexpr (kHigh > 0) {
    const std::byte* high = planes + kPanel * 4 * kLow;
    word = hn::Or(word, plane_bits<kHigh, kLow>(high, t, column));
  }
  if constexpr (kCoding.table) word = look_up(word);
  return word;
}

// Codes of 32 inputs, from the planes on.
template <TensorType kType>
HWY_INLINE void unpack_codes(const std::byte* planes, uint8_t (*code)[kPanel][4]) {
  HWY_UNROLL(8)
  for (int t = 0; t < 8; ++t) {
    for (int64_t column = 0; column < kPanel; column += kLanes) {
      hn::StoreU(group_codes<kType>(planes, t, column), Du(),
                 reinterpret_cast<uint32_t*>(code[t][column]));
    }
  }
}

HWY_INLINE Vf load_int8(const std::byte* p) {
  const hn::Rebind<int8_t, Df> d8;
  const auto bytes = hn::LoadU(d8, reinterpret_cast<const int8_t*>(p));
  return hn::ConvertTo(Df(), hn::PromoteTo(Di(), bytes));
}

// Inputs [k, k + n) of a panel; both are multiples of the block, n <= kUnpacked.
template <TensorType kType>
HWY_NOINLINE void unpack(const std::byte* panel, int64_t k, int64_t n, Unpacked& to) {
  constexpr Coding kCoding = coding(kType);
  constexpr int kScales = 32 / kCoding.per_scale;
  const std::byte* at = panel + k / kCoding.elements * coded_bytes(kCoding);
  int scale = 0;
  for (int64_t i = 0; i < n; i += kCoding.elements) {
    const auto* d = reinterpret_cast<const uint16_t*>(at);
    at += header_bytes(kCoding);
    HWY_UNROLL(1)
    for (int part = 0; part < kCoding.elements / 32; ++part, scale += kScales) {
      for (int64_t column = 0; column < kPanel; column += kLanes) {
        const Vf factor = load_half(d + column);
        const Vf less = kCoding.minimum ? hn::Neg(load_half(d + kPanel + column)) : factor;
        for (int s = 0; s < kScales; ++s) {
          Vf own = factor, base = hn::Neg(less);
          if (kCoding.scales) {
            own = hn::Mul(factor, load_int8(at + s * kPanel + column));
            if (kCoding.minimum) {
              base = hn::Mul(less, load_int8(at + (kScales + s) * kPanel + column));
            }
          }
          hn::StoreU(own, Df(), to.scale[scale + s] + column);
          if (kCoding.minimum) hn::StoreU(base, Df(), to.base[scale + s] + column);
        }
      }
      unpack_codes<kType>(at + scale_bytes(kCoding), to.code + (i + part * 32) / 4);
      at += part_bytes(kCoding);
    }
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

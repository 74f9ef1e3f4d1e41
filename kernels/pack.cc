#include <algorithm>
#include <cstring>

#include "kernels/coded_block.h"
#include "kernels/matmul.h"
#include "kernels/panel.h"

namespace ringtide::kernels {
namespace {

// Where one output's values go within a panel: its lane. Runs of `width` inputs stay together.
template <class T>
void pack_plain(const std::byte* row, int64_t k, int width, int lane, std::byte* panel) {
  for (int64_t i = 0; i < k; ++i) {
    const int64_t at = (i / width * kPanel + lane) * width + i % width;
    std::memcpy(panel + at * sizeof(T), row + i * sizeof(T), sizeof(T));
  }
}

// One plane of 32 codes: `bits` of them from `shift` on.
std::byte* pack_plane(const uint8_t* code, int bits, int shift, int lane, std::byte* at) {
  for (int g = 0; g < bits; ++g) {
    for (int i = 0; i < 4; ++i) {
      int byte = 0;
      for (int s = 0; s < 8 / bits; ++s) {
        const int value = code[4 * (g + bits * s) + i] >> shift & ((1 << bits) - 1);
        byte |= value << (bits * s);
      }
      at[(g * kPanel + lane) * 4 + i] = static_cast<std::byte>(byte);
    }
  }
  return at + kPanel * 4 * bits;
}

std::byte* pack_scales(const int8_t* scale, int n, int lane, std::byte* at) {
  for (int i = 0; i < n; ++i) at[i * kPanel + lane] = static_cast<std::byte>(scale[i]);
  return at + n * kPanel;
}

void pack_coded(TensorType type, const std::byte* row, int64_t k, int lane, std::byte* at) {
  const Coding c = coding(type);
  const int scales = 32 / c.per_scale;
  CodedBlock b;
  for (int64_t block = 0; block < k / c.elements; ++block, row += type_info(type).block_bytes) {
    read_block(type, row, b);
    std::memcpy(at + lane * 2, &b.d, 2);
    if (c.minimum) std::memcpy(at + (kPanel + lane) * 2, &b.m, 2);
    at += header_bytes(c);
    for (int part = 0; part < c.elements / 32; ++part) {
      if (c.scales) {
        at = pack_scales(b.scale + part * scales, scales, lane, at);
        if (c.minimum) at = pack_scales(b.minimum + part * scales, scales, lane, at);
      }
      at = pack_plane(b.code + part * 32, low_bits(c), 0, lane, at);
      if (high_bits(c) > 0) {
        at = pack_plane(b.code + part * 32, high_bits(c), low_bits(c), lane, at);
      }
    }
  }
}

void pack_row(TensorType type, const std::byte* row, int64_t k, int lane, std::byte* panel) {
  switch (type) {
    case TensorType::F32:
      return pack_plain<float>(row, k, 1, lane, panel);
    case TensorType::F16:
      return pack_plain<uint16_t>(row, k, 1, lane, panel);
    case TensorType::BF16:
      return pack_plain<uint16_t>(row, k, 2, lane, panel);
    default:
      return pack_coded(type, row, k, lane, panel);
  }
}

}  // namespace

int64_t packed_bytes(TensorType type, int64_t n, int64_t k) {
  return panel_count(n) * panel_bytes(type, k);
}

Outputs outputs_of(int64_t n, int part, int parts) {
  const auto first = [&](int64_t p) { return std::min(n, panel_count(n) * p / parts * kPanel); };
  return {first(part), first(part + 1)};
}

PackedMatrix part_of(const PackedMatrix& w, const Outputs& outputs) {
  PackedMatrix part = w;
  part.n = outputs.size();
  part.data += outputs.begin / kPanel * panel_bytes(w.type, w.k);
  return part;
}

PackedMatrix pack(TensorType type, const std::byte* rows, int64_t n, int64_t k,
                  std::span<const int32_t> row_order, std::byte* dst, ThreadPool& threads) {
  const int64_t row = row_bytes(type, k);
  const bool padded = type == TensorType::BF16 && k % 2 != 0;
  threads.parallel_for(panel_count(n), [&](int64_t p, int) {
    std::byte* panel = dst + p * panel_bytes(type, k);
    if (padded || (p + 1) * kPanel > n) std::memset(panel, 0, panel_bytes(type, k));
    for (int lane = 0; lane < kPanel && p * kPanel + lane < n; ++lane) {
      const int64_t output = p * kPanel + lane;
      const int64_t source = row_order.empty() ? output : row_order[output];
      pack_row(type, rows + source * row, k, lane, panel);
    }
  });
  return {.type = type, .n = n, .k = k, .data = dst};
}

}  // namespace ringtide::kernels

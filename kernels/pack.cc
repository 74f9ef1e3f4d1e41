#include <cstring>

#include "kernels/matmul.h"
#include "kernels/panel.h"

namespace ringtide::kernels {
namespace {

// Where one output's values go within a panel: its lane.
template <class T>
void pack_plain(const std::byte* row, int64_t k, int lane, std::byte* panel) {
  for (int64_t i = 0; i < k; ++i) {
    std::memcpy(panel + (i * kPanel + lane) * sizeof(T), row + i * sizeof(T), sizeof(T));
  }
}

void pack_q8_0(const std::byte* row, int64_t k, int lane, std::byte* panel) {
  for (int64_t b = 0; b < k / 32; ++b, row += 34, panel += kPanel * 34) {
    std::memcpy(panel + lane * 2, row, 2);
    for (int i = 0; i < 32; ++i) panel[kPanel * (2 + i) + lane] = row[2 + i];
  }
}

// `halves` half-precision numbers, then 32 nibbles.
void pack_q4(const std::byte* row, int64_t k, int halves, int lane, std::byte* panel) {
  const int block = 2 * halves + 16;
  for (int64_t b = 0; b < k / 32; ++b, row += block, panel += kPanel * block) {
    for (int h = 0; h < halves; ++h) std::memcpy(panel + (h * kPanel + lane) * 2, row + h * 2, 2);
    const std::byte* qs = row + 2 * halves;
    std::byte* words = panel + kPanel * 2 * halves;
    for (int g = 0; g < 4; ++g) {
      uint32_t word = 0;
      for (int j = 0; j < 8; ++j) {
        const int input = 8 * g + j;
        const uint32_t byte = std::to_integer<uint32_t>(qs[input % 16]);
        word |= (input < 16 ? byte & 15u : byte >> 4) << (4 * j);
      }
      std::memcpy(words + (g * kPanel + lane) * 4, &word, 4);
    }
  }
}

void pack_row(TensorType type, const std::byte* row, int64_t k, int lane, std::byte* panel) {
  switch (type) {
    case TensorType::F32:
      return pack_plain<float>(row, k, lane, panel);
    case TensorType::F16:
    case TensorType::BF16:
      return pack_plain<uint16_t>(row, k, lane, panel);
    case TensorType::Q8_0:
      return pack_q8_0(row, k, lane, panel);
    case TensorType::Q4_0:
      return pack_q4(row, k, 1, lane, panel);
    case TensorType::Q4_1:
      return pack_q4(row, k, 2, lane, panel);
  }
}

}  // namespace

int64_t packed_bytes(TensorType type, int64_t n, int64_t k) {
  return panel_count(n) * panel_bytes(type, k);
}

PackedMatrix pack(TensorType type, const std::byte* rows, int64_t n, int64_t k,
                  std::span<const int32_t> row_order, std::byte* dst, ThreadPool& threads) {
  const int64_t row = row_bytes(type, k);
  threads.parallel_for(panel_count(n), [&](int64_t p, int) {
    std::byte* panel = dst + p * panel_bytes(type, k);
    if ((p + 1) * kPanel > n) std::memset(panel, 0, panel_bytes(type, k));
    for (int lane = 0; lane < kPanel && p * kPanel + lane < n; ++lane) {
      const int64_t output = p * kPanel + lane;
      const int64_t source = row_order.empty() ? output : row_order[output];
      pack_row(type, rows + source * row, k, lane, panel);
    }
  });
  return {type, n, k, dst};
}

}  // namespace ringtide::kernels

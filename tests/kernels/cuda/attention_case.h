// Random lists of blocks in an arena, and attention over them in double.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/visible_inl.cuh"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {

// An arena of planes, all NaN until blocks are made in it.
class TestArena {
 public:
  TestArena(const Heads& shape, int unit, int planes, int32_t row_offset)
      : shape_(shape), unit_(unit), offset_(row_offset), planes_(planes) {
    bf16 nan;
    std::memset(&nan, 0xff, sizeof nan);
    values_.assign((int64_t{planes} * plane() + row_offset) * shape.head_dim, nan);
    std::iota(planes_.begin(), planes_.end(), 0);
  }
  int plane() const { return shape_.kv_heads * unit_; }

  // A block whose planes are two that no other has, with random tokens [begin, end). Rows are
  // relative to the offset, where the list's kind has one.
  KvRef block(std::mt19937_64& random, int begin, int end, int64_t position, bool absolute) {
    if (next_ == 0) std::shuffle(planes_.begin(), planes_.end(), random);
    KvRef ref{take(), take(), begin, end, position};
    for (const int32_t row : {ref.k_row, ref.v_row})
      for (int g = 0; g < shape_.kv_heads; ++g) {
        const auto x = normals_bf16(random, (end - begin) * shape_.head_dim);
        std::copy(x.begin(), x.end(),
                  values_.begin() + (int64_t{row} + offset_ + g * unit_ + begin) * shape_.head_dim);
      }
    if (absolute) {
      ref.k_row += offset_;
      ref.v_row += offset_;
    }
    return ref;
  }
  const bf16* row(int64_t r) const { return values_.data() + r * shape_.head_dim; }
  const std::vector<bf16>& values() const { return values_; }

 private:
  int32_t take() { return planes_.at(next_++) * plane(); }
  Heads shape_;
  int unit_;
  int32_t offset_;
  std::vector<int32_t> planes_;
  size_t next_ = 0;
  std::vector<bf16> values_;
};

struct HostLists {
  std::vector<KvRef> near, far, units;
  Band near_band, far_band;
  int64_t position = 0;
};

// One query head of one query.
struct Attended {
  std::vector<double> o;
  double lse = -INFINITY;
};
inline Attended attend_in_double(const TestArena& arena, const Heads& shape, int unit,
                                 const HostLists& lists, int32_t offset, int64_t position, int head,
                                 const bf16* q_near, const bf16* q_far, double scale) {
  const int dim = shape.head_dim, g = head / shape.group();
  std::vector<double> logits;
  std::vector<const bf16*> values;
  const auto add = [&](const std::vector<KvRef>& refs, Band band, const bf16* q, int32_t shift) {
    for (const KvRef& ref : refs)
      for (int t = ref.begin; t < ref.end; ++t) {
        const int64_t distance = position - (ref.position + t);
        if (distance < band.nearest || distance > band.farthest) continue;
        const bf16* k = arena.row(int64_t{ref.k_row} + shift + g * unit + t);
        double dot = 0;
        for (int i = 0; i < dim; ++i) dot += value(q[i]) * value(k[i]);
        logits.push_back(dot * scale);
        values.push_back(arena.row(int64_t{ref.v_row} + shift + g * unit + t));
      }
  };
  add(lists.near, lists.near_band, q_near, offset);
  add(lists.far, lists.far_band, q_far, offset);
  add(lists.units, lists.far_band, q_far, 0);
  Attended result;
  result.o.assign(dim, 0);
  if (logits.empty()) return result;
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double p = std::exp(logits[i] - most);
    sum += p;
    for (int d = 0; d < dim; ++d) result.o[d] += p * value(values[i][d]);
  }
  for (double& x : result.o) x /= sum;
  result.lse = most + std::log(sum);
  return result;
}

// Lists in device memory.
class DeviceLists {
 public:
  DeviceLists(const HostLists& lists, int32_t row_offset) {
    view_.near = list(lists.near, row_offset);
    view_.far = list(lists.far, row_offset);
    view_.units = list(lists.units, 0);
  }
  const Lists& view() const { return view_; }

 private:
  KvList list(const std::vector<KvRef>& refs, int32_t row_offset) {
    if (refs.empty()) return {};
    refs_.push_back(std::make_unique<Device<KvRef>>(refs));
    counts_.push_back(
        std::make_unique<Device<int32_t>>(std::vector{static_cast<int32_t>(refs.size())}));
    return {*refs_.back(), *counts_.back(), static_cast<int32_t>(refs.size()), row_offset};
  }
  std::vector<std::unique_ptr<Device<KvRef>>> refs_;
  std::vector<std::unique_ptr<Device<int32_t>>> counts_;
  Lists view_;
};

}  // namespace ringtide::kernels::cuda

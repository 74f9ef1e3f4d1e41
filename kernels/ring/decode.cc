#include "kernels/ring/decode.h"

#include <algorithm>

namespace ringtide::kernels::ring {

void Decode::run(std::span<const DecodeRow> rows, const float* q, float scale, float* o, float* lse,
                 uint64_t number, Transport& transport, ThreadPool& threads) {
  const int64_t row = int64_t{shape_.heads} * shape_.head_dim;
  const auto n = static_cast<int64_t>(rows.size());
  const int64_t part = n * (row + shape_.heads);
  mine_.resize(part);
  all_.resize(part * shards_);
  for (int64_t i = 0; i < n; ++i) {
    attend(shape_, q + i * row, rows[i].position, 1, rows[i].blocks, rows[i].band, scale,
           mine_.data() + i * row, mine_.data() + n * row + i * shape_.heads, threads);
  }
  transport.gather(number, std::as_bytes(std::span(mine_)),
                   std::as_writable_bytes(std::span(all_)));
  std::copy_n(all_.data(), n * row, o);
  std::copy_n(all_.data() + n * row, n * shape_.heads, lse);
  for (int s = 1; s < shards_; ++s) {
    const float* from = all_.data() + s * part;
    merge(o, lse, from, from + n * row, n * shape_.heads, shape_.head_dim, threads);
  }
}

}  // namespace ringtide::kernels::ring

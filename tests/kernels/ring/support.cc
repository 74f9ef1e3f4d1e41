#include "tests/kernels/ring/support.h"

#include <cmath>
#include <limits>
#include <thread>

namespace ringtide::kernels::ring {

Sequence::Sequence(const SequenceShape& shape)
    : shape_(shape), placement_(shape.shards, shape.unit), kv_(shape.shards) {}

Tokens Sequence::append(Random& random, int64_t count) {
  const Tokens fresh{placement_.tokens(), placement_.tokens() + count};
  placement_.append(count);
  const int64_t kv_row = int64_t{shape_.heads.kv_heads} * shape_.heads.head_dim;
  const auto grow = [&](std::vector<float>& to, int64_t n, bool stored) {
    std::vector<float> x = normals(random, n);
    if (stored) {
      std::vector<std::byte> bytes(n * kv_bytes(shape_.type));
      to_kv(shape_.type, x.data(), n, bytes.data());
      from_kv(shape_.type, bytes.data(), n, x.data());
    }
    to.insert(to.end(), x.begin(), x.end());
  };
  grow(q_, count * row(), false);
  grow(k_, count * kv_row, true);
  grow(v_, count * kv_row, true);
  for (int s = 0; s < shape_.shards; ++s) {
    const int64_t bytes = 2 * kv_row * shape_.unit * kv_bytes(shape_.type);
    kv_[s].resize(placement_.blocks_of(s).size() * bytes, std::byte{0xff});
  }
  for (int64_t t = fresh.begin; t < fresh.end; ++t) store(t);
  return fresh;
}

void Sequence::store(int64_t token) {
  const auto& [heads, kv_heads, dim] = shape_.heads;
  const int64_t bytes = kv_bytes(shape_.type), unit = shape_.unit;
  for (int s = 0; s < shape_.shards; ++s) {
    const auto& blocks = placement_.blocks_of(s);
    for (size_t b = 0; b < blocks.size(); ++b) {
      if (blocks[b] != token / unit) continue;
      for (int part = 0; part < 2; ++part) {
        for (int g = 0; g < kv_heads; ++g) {
          const float* from = (part == 0 ? k_ : v_).data() + (token * kv_heads + g) * dim;
          const int64_t to = (((b * 2 + part) * kv_heads + g) * unit + token % unit) * dim;
          to_kv(shape_.type, from, dim, kv_[s].data() + to * bytes);
        }
      }
    }
  }
}

std::vector<KvBlock> Sequence::blocks(int shard) const {
  const int64_t half =
      int64_t{shape_.heads.kv_heads} * shape_.unit * shape_.heads.head_dim * kv_bytes(shape_.type);
  std::vector<KvBlock> blocks;
  for (int64_t b : placement_.blocks_of(shard)) {
    KvBlock block;
    block.k = kv_[shard].data() + 2 * half * blocks.size();
    block.v = kv_[shard].data() + 2 * half * blocks.size() + half;
    block.type = shape_.type;
    block.capacity = shape_.unit;
    block.position = b * shape_.unit;
    block.end = std::min<int64_t>(shape_.unit, placement_.tokens() - block.position);
    blocks.push_back(block);
  }
  return blocks;
}

std::vector<float> Sequence::queries(int shard, Tokens fresh) const {
  std::vector<float> q;
  for (const Tokens& run : placement_.runs(shard, fresh))
    q.insert(q.end(), query(run.begin), query(run.end));
  return q;
}

SlowResult Sequence::slow(int64_t position, int head) const {
  const auto& [heads, kv_heads, dim] = shape_.heads;
  const int g = head / (heads / kv_heads);
  std::vector<double> logits;
  double most = -std::numeric_limits<double>::infinity();
  for (int64_t t = 0; t <= position; ++t) {
    double dot = 0;
    for (int d = 0; d < dim; ++d)
      dot += double{query(position)[head * dim + d]} * k_[(t * kv_heads + g) * dim + d];
    logits.push_back(dot * shape_.scale);
    most = std::max(most, logits.back());
  }
  SlowResult result{std::vector<double>(dim), {}};
  double sum = 0;
  for (int64_t t = 0; t <= position; ++t) {
    const double p = std::exp(logits[t] - most);
    sum += p;
    for (int d = 0; d < dim; ++d) result.o[d] += p * v_[(t * kv_heads + g) * dim + d];
  }
  for (double& x : result.o) x /= sum;
  result.lse.push_back(most + std::log(sum));
  return result;
}

std::vector<std::string> on_shards(int shards, const std::function<void(int)>& body) {
  std::vector<std::string> thrown(shards);
  std::vector<std::thread> threads;
  for (int s = 0; s < shards; ++s) {
    threads.emplace_back([&, s] {
      try {
        body(s);
      } catch (const std::exception& e) {
        thrown[s] = e.what();
      }
    });
  }
  for (auto& t : threads) t.join();
  return thrown;
}

void Weather::delay() {
  if (most_.count() == 0) return;
  const auto us = uniform(random_, -most_.count(), most_.count());
  if (us > 0) std::this_thread::sleep_for(std::chrono::microseconds(us));
}

}  // namespace ringtide::kernels::ring

#include "tests/kernels/support.h"

#include <cmath>
#include <limits>

namespace ringtide::kernels {

void EachTarget::SetUp() { ASSERT_TRUE(use_instruction_set(GetParam())); }

void EachTarget::TearDown() { use_instruction_set(""); }

std::string target_name(const testing::TestParamInfo<std::string>& info) { return info.param; }

std::vector<float> normals(Random& random, int64_t n, float scale) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

int64_t uniform(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

namespace {

// Stores values in a block's type, all but its tokens as NaN; gives back what the block then holds.
std::vector<float> store(const HeadShape& shape, const BlockSpec& spec, std::vector<float> values,
                         std::vector<unsigned char>& memory) {
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t token = i / shape.head_dim % spec.capacity;
    if (token < spec.begin || token >= spec.end) {
      values[i] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  const int64_t n = values.size();
  memory.resize(n * kv_bytes(spec.type));
  to_kv(spec.type, values.data(), n, memory.data());
  from_kv(spec.type, memory.data(), n, values.data());
  return values;
}

}  // namespace

TestBlock make_block(Random& random, const HeadShape& shape, const BlockSpec& spec) {
  const int64_t n = static_cast<int64_t>(shape.kv_heads) * spec.capacity * shape.head_dim;
  TestBlock b;
  b.keys = store(shape, spec, normals(random, n), b.k);
  b.values = store(shape, spec, normals(random, n), b.v);
  b.block = {b.k.data(),    b.v.data(), spec.type, spec.capacity, spec.begin, spec.end,
             spec.position, {},         {}};
  if (spec.rotated) {
    const int64_t half = shape.head_dim / 2;
    std::uniform_real_distribution<double> angle(-3, 3);
    const auto add = [&](double a) {
      b.cos.push_back(static_cast<float>(std::cos(a)));
      b.sin.push_back(static_cast<float>(std::sin(a)));
    };
    for (int64_t j = 0; j < half; ++j) add(angle(random));
    for (int64_t i = 0; i < step_floats(spec.capacity, half); ++i) {
      const int64_t token = i / (half * kStepsTogether) * kStepsTogether + i % kStepsTogether;
      const bool used = token >= spec.begin && token < spec.end;
      add(used ? angle(random) : std::numeric_limits<double>::quiet_NaN());
    }
    b.block.start = {b.cos.data(), b.sin.data()};
    b.block.steps = {b.cos.data() + half, b.sin.data() + half};
  }
  return b;
}

double slow_logit(const HeadShape& shape, const float* q, const TestBlock& block, int kv_head,
                  int token, float scale) {
  const int dim = shape.head_dim, half = dim / 2;
  const float* k = &block.keys[(int64_t{kv_head} * block.block.capacity + token) * dim];
  double sum = 0;
  for (int j = 0; j < half; ++j) {
    double a = k[j], b = k[j + half];
    const Rotation &start = block.block.start, &steps = block.block.steps;
    if (start.cos) {
      const int64_t at = step_at(token, j, half);
      const double start_cos = start.cos[j], start_sin = start.sin[j];
      const double c = start_cos * steps.cos[at] - start_sin * steps.sin[at];
      const double s = start_sin * steps.cos[at] + start_cos * steps.sin[at];
      const double turned = a * c - b * s;
      b = b * c + a * s;
      a = turned;
    }
    sum += q[j] * a + q[j + half] * b;
  }
  return scale * sum;
}

bool sees(const TestBlock& block, int token, int64_t position, Band band) {
  if (token < block.block.begin || token >= block.block.end) return false;
  const int64_t distance = position - (block.block.position + token);
  return band.nearest <= distance && distance <= band.farthest;
}

SlowResult slow_attend(const HeadShape& shape, const std::vector<float>& q, int64_t position,
                       int64_t m, std::span<const TestBlock> blocks, Band band, float scale) {
  const int dim = shape.head_dim;
  SlowResult result;
  for (int64_t row = 0; row < m * shape.heads; ++row) {
    const int64_t i = row / shape.heads;
    const int kv_head = static_cast<int>(row % shape.heads) / (shape.heads / shape.kv_heads);
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    std::vector<double> o(dim, 0);
    const auto each = [&](auto&& f) {
      for (const TestBlock& b : blocks) {
        for (int t = 0; t < b.block.capacity; ++t) {
          if (!sees(b, t, position + i, band)) continue;
          f(b, t, slow_logit(shape, &q[row * dim], b, kv_head, t, scale));
        }
      }
    };
    each([&](const TestBlock&, int, double logit) { top = std::max(top, logit); });
    each([&](const TestBlock& b, int t, double logit) {
      const double weight = std::exp(logit - top);
      sum += weight;
      const float* v = &b.values[(int64_t{kv_head} * b.block.capacity + t) * dim];
      for (int j = 0; j < dim; ++j) o[j] += weight * v[j];
    });
    for (double& x : o) result.o.push_back(sum > 0 ? x / sum : 0);
    result.lse.push_back(top + std::log(sum));
  }
  for (double& lse : result.lse) {
    if (std::isnan(lse)) lse = -std::numeric_limits<double>::infinity();
  }
  return result;
}

std::vector<KvBlock> blocks_of(std::span<const TestBlock> blocks) {
  std::vector<KvBlock> list;
  for (const TestBlock& b : blocks) list.push_back(b.block);
  return list;
}

}  // namespace ringtide::kernels

#include "model/weights.h"

#include <sys/mman.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unordered_set>

namespace ringtide::model {
namespace {

using kernels::PackedMatrix;
using kernels::TensorType;

// Where the system gives huge pages, one entry of the translation cache covers this much.
constexpr size_t kHugePage = size_t{2} << 20;
constexpr int64_t kLine = 64;

int64_t to_line(int64_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

TensorType served_type(const GgufFile& file, const GgufTensor& t) {
  constexpr TensorType kServed[] = {TensorType::F32,  TensorType::F16,  TensorType::BF16,
                                    TensorType::Q8_0, TensorType::Q4_0, TensorType::Q4_1};
  std::string names;
  for (const TensorType type : kServed) {
    if (kernels::type_info(type).name == t.type_name) return type;
    names += (names.empty() ? "" : ", ") + std::string(kernels::type_info(type).name);
  }
  const std::string type =
      t.type_name.empty() ? "number " + std::to_string(t.type) : std::string(t.type_name);
  file.fail("tensor " + quoted(t.name) + " has type " + type + "; supported: " + names +
            ". Use a model quantised to one of these");
}

std::string text(const std::vector<int64_t>& shape) {
  std::string s;
  for (const int64_t extent : shape) s += (s.empty() ? "(" : ", ") + std::to_string(extent);
  return s + ")";
}

// Rows of Wq and Wk lie in the file so that RoPE turns neighbours, (x[2j], x[2j + 1]) of a head;
// ours turns (x[j], x[j + d/2]).
std::vector<int32_t> half_split_order(int heads, int head_dim) {
  std::vector<int32_t> order(static_cast<size_t>(heads) * head_dim);
  const int half = head_dim / 2;
  for (int h = 0; h < heads; ++h) {
    for (int j = 0; j < half; ++j) {
      order[h * head_dim + j] = h * head_dim + 2 * j;
      order[h * head_dim + half + j] = h * head_dim + 2 * j + 1;
    }
  }
  return order;
}

std::shared_ptr<std::byte> allocate(const GgufFile& file, size_t bytes) {
  const size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kHugePage, rounded));
  if (memory == nullptr) {
    file.fail("its weights need " + std::to_string(rounded >> 20) +
              " MiB, more memory than the system gives; free some, or use a smaller model");
  }
  ::madvise(memory, rounded, MADV_HUGEPAGE);
  return {memory, &std::free};
}

// First collects what is wanted, checking it, and then packs all of it.
class Loader {
 public:
  explicit Loader(const GgufFile& file) : file_(file) {}

  const GgufTensor& expect(const std::string& name, const std::vector<int64_t>& shape) {
    const GgufTensor* t = file_.tensor(name);
    if (t == nullptr) {
      file_.fail("tensor " + quoted(name) + " is missing; the file holds no whole model");
    }
    if (t->shape != shape) {
      file_.fail("tensor " + quoted(name) + " has shape " + text(t->shape) + ", not " +
                 text(shape) + " as the metadata says");
    }
    known_.insert(t->name);
    return *t;
  }

  // `order` must outlive pack().
  void matrix(const std::string& name, int64_t k, int64_t n, PackedMatrix& out,
              std::span<const int32_t> order = {}) {
    const GgufTensor& t = expect(name, {k, n});
    const TensorType type = served_type(file_, t);
    matrices_.push_back({t.bytes.data(), type, n, k, order, &out});
    bytes_ += to_line(kernels::packed_bytes(type, n, k));
  }

  void vector(const std::string& name, int64_t n, const float*& out) {
    const GgufTensor& t = expect(name, {n});
    if (t.type_name != "F32") {
      file_.fail("tensor " + quoted(name) + " has type " + std::string(t.type_name) +
                 "; a norm must be F32");
    }
    vectors_.push_back({&t, n, &out});
    bytes_ += to_line(n * 4);
  }

  void refuse_unknown() const {
    for (const GgufTensor& t : file_.tensors()) {
      if (known_.contains(t.name) || t.name == "rope_freqs.weight") continue;
      file_.fail("tensor " + quoted(t.name) +
                 " is not part of the architecture as it is supported; ignoring it would change "
                 "the model's output");
    }
  }

  std::shared_ptr<const void> pack(kernels::ThreadPool& threads, const Progress& progress) {
    auto memory = allocate(file_, static_cast<size_t>(bytes_));
    std::byte* at = memory.get();
    for (const Vector& v : vectors_) {
      auto* values = reinterpret_cast<float*>(at);
      std::memcpy(values, v.tensor->bytes.data(), v.tensor->bytes.size());
      for (int64_t i = 0; i < v.n; ++i) {
        if (!std::isfinite(values[i])) {
          file_.fail("tensor " + quoted(v.tensor->name) + " holds a value that is not finite");
        }
      }
      *v.out = values;
      at += to_line(v.n * 4);
    }
    for (const Matrix& m : matrices_) {
      *m.out = kernels::pack(m.type, m.rows, m.n, m.k, m.order, at, threads);
      at += to_line(kernels::packed_bytes(m.type, m.n, m.k));
      if (progress) progress(static_cast<double>(at - memory.get()) / bytes_);
    }
    return memory;
  }

  int64_t bytes() const { return bytes_; }

 private:
  struct Matrix {
    const std::byte* rows;
    TensorType type;
    int64_t n, k;
    std::span<const int32_t> order;
    PackedMatrix* out;
  };
  struct Vector {
    const GgufTensor* tensor;
    int64_t n;
    const float** out;
  };

  const GgufFile& file_;
  std::vector<Matrix> matrices_;
  std::vector<Vector> vectors_;
  std::unordered_set<std::string_view> known_;
  int64_t bytes_ = 0;
};

}  // namespace

Weights load_weights(const GgufFile& file, const ModelConfig& c, kernels::ThreadPool& threads,
                     const Progress& progress) {
  const int64_t q_width = int64_t{c.heads} * c.head_dim;
  const int64_t kv_width = int64_t{c.kv_heads} * c.head_dim;
  const std::vector<int32_t> q_order = half_split_order(c.heads, c.head_dim);
  const std::vector<int32_t> k_order = half_split_order(c.kv_heads, c.head_dim);

  Weights w;
  Loader in(file);
  const GgufTensor& embedding = in.expect("token_embd.weight", {c.hidden, c.vocabulary});
  w.embedding = {served_type(file, embedding), embedding.bytes.data()};
  w.layers.resize(c.layers);
  for (int32_t i = 0; i < c.layers; ++i) {
    LayerWeights& layer = w.layers[i];
    const std::string block = "blk." + std::to_string(i) + ".";
    in.vector(block + "attn_norm.weight", c.hidden, layer.attention_norm);
    in.matrix(block + "attn_q.weight", c.hidden, q_width, layer.wq, q_order);
    in.matrix(block + "attn_k.weight", c.hidden, kv_width, layer.wk, k_order);
    in.matrix(block + "attn_v.weight", c.hidden, kv_width, layer.wv);
    in.matrix(block + "attn_output.weight", q_width, c.hidden, layer.wo);
    in.vector(block + "ffn_norm.weight", c.hidden, layer.ffn_norm);
    in.matrix(block + "ffn_gate.weight", c.hidden, c.ffn, layer.gate);
    in.matrix(block + "ffn_up.weight", c.hidden, c.ffn, layer.up);
    in.matrix(block + "ffn_down.weight", c.ffn, c.hidden, layer.down);
  }
  in.vector("output_norm.weight", c.hidden, w.output_norm);
  const bool tied = file.tensor("output.weight") == nullptr;
  in.matrix(tied ? "token_embd.weight" : "output.weight", c.hidden, c.vocabulary, w.output);
  in.refuse_unknown();

  w.packed_bytes = in.bytes();
  w.memory = in.pack(threads, progress);
  return w;
}

}  // namespace ringtide::model

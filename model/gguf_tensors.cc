#include "model/gguf_tensors.h"

#include <cmath>
#include <cstring>
#include <string>
#include <unordered_set>

#include "model/architecture.h"

namespace ringtide::model {
namespace {

using kernels::TensorType;

TensorType served_type(const GgufFile& file, const GgufTensor& t) {
  std::string names;
  for (int i = 0; i < kernels::kTensorTypes; ++i) {
    const auto type = static_cast<TensorType>(i);
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
std::shared_ptr<const std::vector<int32_t>> half_split_order(int heads, int head_dim) {
  auto order = std::make_shared<std::vector<int32_t>>(static_cast<size_t>(heads) * head_dim);
  const int half = head_dim / 2;
  for (int h = 0; h < heads; ++h) {
    for (int j = 0; j < half; ++j) {
      (*order)[h * head_dim + j] = h * head_dim + 2 * j;
      (*order)[h * head_dim + half + j] = h * head_dim + 2 * j + 1;
    }
  }
  return order;
}

std::span<const int32_t> view(const std::shared_ptr<const std::vector<int32_t>>& order) {
  return order ? std::span<const int32_t>(*order) : std::span<const int32_t>();
}

// Takes tensors by name, and knows afterwards which were not taken.
class Reader {
 public:
  explicit Reader(const GgufFile& file) : file_(file) {}

  RawMatrix matrix(const std::string& name, int64_t k, int64_t n,
                   std::span<const int32_t> order = {}) {
    const GgufTensor& t = expect(name, {k, n});
    RawMatrix m{name, served_type(file_, t), t.bytes.data(), n, k, order};
    bytes_ += m.bytes();
    return m;
  }

  std::vector<float> vector(const std::string& name, int64_t n) {
    const GgufTensor& t = expect(name, {n});
    if (t.type_name != "F32") {
      file_.fail("tensor " + quoted(name) + " has type " + std::string(t.type_name) +
                 "; a norm or bias must be F32");
    }
    std::vector<float> values(n);
    std::memcpy(values.data(), t.bytes.data(), t.bytes.size());
    for (const float v : values) {
      if (!std::isfinite(v)) {
        file_.fail("tensor " + quoted(name) + " holds a value that is not finite");
      }
    }
    bytes_ += n * 4;
    return values;
  }

  bool has(const std::string& name) const { return file_.tensor(name) != nullptr; }

  void refuse_unknown() const {
    for (const GgufTensor& t : file_.tensors()) {
      if (known_.contains(t.name) || t.name == "rope_freqs.weight") continue;
      file_.fail("tensor " + quoted(t.name) +
                 " is not part of the architecture as it is supported; ignoring it would change "
                 "the model's output");
    }
  }

  int64_t bytes() const { return bytes_; }

 private:
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

  const GgufFile& file_;
  std::unordered_set<std::string_view> known_;
  int64_t bytes_ = 0;
};

// `order` as a matrix has it.
void reorder(std::vector<float>& values, std::span<const int32_t> order) {
  if (values.empty() || order.empty()) return;
  const std::vector<float> rows = values;
  for (size_t i = 0; i < values.size(); ++i) values[i] = rows[order[i]];
}

}  // namespace

Tensors read_tensors(const GgufFile& file, const ModelConfig& c) {
  const Architecture& a = *find_architecture(c.architecture);
  const int64_t q_width = int64_t{c.heads} * c.head_dim;
  const int64_t kv_width = int64_t{c.kv_heads} * c.head_dim;

  Tensors model;
  if (a.adjacent_pairs) {
    model.q_order = half_split_order(c.heads, c.head_dim);
    model.k_order = half_split_order(c.kv_heads, c.head_dim);
  }
  const std::span<const int32_t> q_order = view(model.q_order), k_order = view(model.k_order);
  Reader in(file);
  model.embedding = in.matrix("token_embd.weight", c.hidden, c.vocabulary);
  model.layers.resize(c.layers);
  for (int32_t i = 0; i < c.layers; ++i) {
    LayerTensors& layer = model.layers[i];
    const std::string block = "blk." + std::to_string(i) + ".";
    layer.attention_norm = in.vector(block + "attn_norm.weight", c.hidden);
    layer.wq = in.matrix(block + "attn_q.weight", c.hidden, q_width, q_order);
    layer.wk = in.matrix(block + "attn_k.weight", c.hidden, kv_width, k_order);
    layer.wv = in.matrix(block + "attn_v.weight", c.hidden, kv_width);
    if (a.qkv_bias == Biases::Required ||
        (a.qkv_bias == Biases::Optional && in.has(block + "attn_q.bias"))) {
      layer.q_bias = in.vector(block + "attn_q.bias", q_width);
      layer.k_bias = in.vector(block + "attn_k.bias", kv_width);
      layer.v_bias = in.vector(block + "attn_v.bias", kv_width);
      reorder(layer.q_bias, q_order);
      reorder(layer.k_bias, k_order);
    }
    if (a.head_norms) {
      layer.q_norm = in.vector(block + "attn_q_norm.weight", c.head_dim);
      layer.k_norm = in.vector(block + "attn_k_norm.weight", c.head_dim);
    }
    layer.wo = in.matrix(block + "attn_output.weight", q_width, c.hidden);
    if (a.post_norms) {
      layer.post_attention_norm = in.vector(block + "post_attention_norm.weight", c.hidden);
    }
    layer.ffn_norm = in.vector(block + "ffn_norm.weight", c.hidden);
    layer.gate = in.matrix(block + "ffn_gate.weight", c.hidden, c.ffn);
    layer.up = in.matrix(block + "ffn_up.weight", c.hidden, c.ffn);
    layer.down = in.matrix(block + "ffn_down.weight", c.ffn, c.hidden);
    if (a.post_norms) layer.post_ffn_norm = in.vector(block + "post_ffw_norm.weight", c.hidden);
  }
  model.output_norm = in.vector("output_norm.weight", c.hidden);
  model.output = in.has("output.weight") ? in.matrix("output.weight", c.hidden, c.vocabulary)
                                         : model.embedding;
  in.refuse_unknown();
  model.bytes = in.bytes();
  return model;
}

}  // namespace ringtide::model

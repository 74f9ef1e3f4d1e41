#include "model/read_tensors.h"

#include <cmath>
#include <string>
#include <unordered_set>

#include "model/architecture.h"

namespace ringtide::model {
namespace {

using kernels::TensorType;

TensorType served_type(const TensorSet& files, const FileTensor& t) {
  std::string names;
  for (int i = 0; i < kernels::kTensorTypes; ++i) {
    const auto type = static_cast<TensorType>(i);
    if (kernels::type_info(type).name == t.type_name) return type;
    names += (names.empty() ? "" : ", ") + std::string(kernels::type_info(type).name);
  }
  const std::string type =
      t.type_name.empty() ? "number " + std::to_string(t.type) : std::string(t.type_name);
  files.fail("tensor " + quoted(t.name) + " has type " + type + "; supported: " + names +
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
  Reader(const TensorSet& files, const TensorNames& names) : files_(files), names_(names) {}

  RawMatrix matrix(const std::string& name, int64_t k, int64_t n,
                   std::span<const int32_t> order = {}) {
    const FileTensor& t = expect(name, {k, n});
    RawMatrix m{name, served_type(files_, t), t.bytes.data(), n, k, order};
    bytes_ += static_cast<int64_t>(t.bytes.size());
    return m;
  }

  std::vector<float> vector(const std::string& name, int64_t n) {
    const FileTensor& t = expect(name, {n});
    const TensorType type = served_type(files_, t);
    if (type != TensorType::F32 && type != TensorType::F16 && type != TensorType::BF16) {
      files_.fail("tensor " + quoted(name) + " has type " + std::string(t.type_name) +
                  "; a norm or bias must be F32, F16 or BF16");
    }
    std::vector<float> values(n);
    kernels::dequantize(type, t.bytes.data(), n, values.data());
    for (const float v : values) {
      if (!std::isfinite(v)) {
        files_.fail("tensor " + quoted(name) + " holds a value that is not finite");
      }
    }
    bytes_ += static_cast<int64_t>(t.bytes.size());
    return values;
  }

  std::vector<float> norm(const std::string& name, int64_t n) {
    std::vector<float> values = vector(name, n);
    for (float& v : values) v += names_.norm_offset;
    return values;
  }

  bool has(const std::string& name) const { return files_.find(name) != nullptr; }

  void refuse_unknown() const {
    for (const FileTensor* t : files_.all()) {
      if (known_.contains(t->name) || told_elsewhere(t->name)) continue;
      files_.fail("tensor " + quoted(t->name) +
                  " is not part of the architecture as it is supported; ignoring it would change "
                  "the model's output");
    }
  }
  void ignore(std::string_view name) { known_.insert(name); }

  int64_t bytes() const { return bytes_; }

 private:
  // RoPE's frequencies: part of the configuration.
  static bool told_elsewhere(std::string_view name) {
    return name == "rope_freqs.weight" || name.ends_with(".rotary_emb.inv_freq");
  }

  const FileTensor& expect(const std::string& name, const std::vector<int64_t>& shape) {
    const FileTensor* t = files_.find(name);
    if (t == nullptr) {
      files_.fail("tensor " + quoted(name) + " is missing; the file holds no whole model");
    }
    if (t->shape != shape) {
      files_.fail("tensor " + quoted(name) + " has shape " + text(t->shape) + ", not " +
                  text(shape) + " as the metadata says");
    }
    known_.insert(t->name);
    return *t;
  }

  const TensorSet& files_;
  const TensorNames& names_;
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

Tensors read_tensors(const TensorSet& files, const TensorNames& names, const ModelConfig& c) {
  const Architecture& a = *find_architecture(c.architecture);
  const int64_t q_width = int64_t{c.heads} * c.head_dim;
  const int64_t kv_width = int64_t{c.kv_heads} * c.head_dim;

  Tensors model;
  if (names.adjacent_pairs) {
    model.q_order = half_split_order(c.heads, c.head_dim);
    model.k_order = half_split_order(c.kv_heads, c.head_dim);
  }
  const std::span<const int32_t> q_order = view(model.q_order), k_order = view(model.k_order);
  Reader in(files, names);
  model.embedding = in.matrix(std::string(names.embedding), c.hidden, c.vocabulary);
  model.layers.resize(c.layers);
  for (int32_t i = 0; i < c.layers; ++i) {
    LayerTensors& layer = model.layers[i];
    const auto named = [&](std::string_view name, const char* part) {
      return std::string(names.layer) + std::to_string(i) + "." + std::string(name) + part;
    };
    const auto weight = [&](std::string_view name) { return named(name, ".weight"); };
    const auto bias = [&](std::string_view name) { return named(name, ".bias"); };
    layer.attention_norm = in.norm(weight(names.attention_norm), c.hidden);
    layer.wq = in.matrix(weight(names.q), c.hidden, q_width, q_order);
    layer.wk = in.matrix(weight(names.k), c.hidden, kv_width, k_order);
    layer.wv = in.matrix(weight(names.v), c.hidden, kv_width);
    if (a.qkv_bias == Biases::Required ||
        (a.qkv_bias == Biases::Optional && in.has(bias(names.q)))) {
      layer.q_bias = in.vector(bias(names.q), q_width);
      layer.k_bias = in.vector(bias(names.k), kv_width);
      layer.v_bias = in.vector(bias(names.v), kv_width);
      reorder(layer.q_bias, q_order);
      reorder(layer.k_bias, k_order);
    }
    if (a.head_norms) {
      layer.q_norm = in.norm(weight(names.q_norm), c.head_dim);
      layer.k_norm = in.norm(weight(names.k_norm), c.head_dim);
    }
    layer.wo = in.matrix(weight(names.o), q_width, c.hidden);
    if (a.post_norms) {
      layer.post_attention_norm = in.norm(weight(names.post_attention_norm), c.hidden);
    }
    layer.ffn_norm = in.norm(weight(names.ffn_norm), c.hidden);
    layer.gate = in.matrix(weight(names.gate), c.hidden, c.ffn);
    layer.up = in.matrix(weight(names.up), c.hidden, c.ffn);
    layer.down = in.matrix(weight(names.down), c.ffn, c.hidden);
    if (a.post_norms) layer.post_ffn_norm = in.norm(weight(names.post_ffn_norm), c.hidden);
  }
  model.output_norm = in.norm(std::string(names.output_norm), c.hidden);
  model.output =
      c.tied ? model.embedding : in.matrix(std::string(names.output), c.hidden, c.vocabulary);
  // A tied model may carry a copy.
  if (c.tied) in.ignore(names.output);
  in.refuse_unknown();
  model.bytes = in.bytes();
  return model;
}

Tensors read_tensors(const GgufFile& file, const ModelConfig& config) {
  TensorSet tensors(file.name());
  tensors.add(file.tensors());
  return read_tensors(tensors, gguf_names(*find_architecture(config.architecture)), config);
}

}  // namespace ringtide::model

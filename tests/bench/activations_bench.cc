// What each kind of activations makes of a model's predictions, on a text:
//
//   activations_bench MODEL TEXT [TOKENS [CONTEXT]]
//
// The text is cut into contexts (default: 2,048 tokens), each seen by nothing else. Against
// float32: perplexity, how often the best token is the same, and the mean divergence KL(float32 ||
// other) in nats.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "model/context_attention.h"
#include "model/cpu_weights.h"
#include "model/model.h"
#include "model/policy.h"
#include "model/tokenizer.h"
#include "model/transformer.h"
#include "tests/support/memory_units.h"

namespace ringtide {
namespace {

using model::TokenId;

constexpr const char* kNames[] = {"f32", "int16", "int8"};

struct Variant {
  model::CpuWeights weights;
  double loss = 0, divergence = 0;
  int64_t same = 0, counted = 0;
};

// log softmax in place; returns the best token.
int64_t to_log_probabilities(float* logits, int64_t n) {
  const float* best = std::max_element(logits, logits + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(double{logits[i]} - *best);
  const auto shift = static_cast<float>(*best + std::log(sum));
  const int64_t at = best - logits;
  for (int64_t i = 0; i < n; ++i) logits[i] -= shift;
  return at;
}

// Log probabilities of the token after each of `tokens`, (tokens, vocabulary), block by block.
class Pass {
 public:
  Pass(const model::Model& m, const model::CpuWeights& weights, model::UnitStore& store,
       model::UnitCache& cache, kernels::ThreadPool& threads)
      : model_(m), transformer_(m, weights, threads), attention_(cache, store, threads, {}) {
    model::PolicyConfig config;
    config.kind = model::PolicyKind::Exact;
    auto policy = model::make_policy(config);
    const model::PageLayout layout{m.config.layers,
                                   {m.config.heads, m.config.kv_heads, m.config.head_dim},
                                   config.unit,
                                   kernels::KvType::F16,
                                   policy->represents()};
    context_ =
        std::make_unique<model::Context>(1, std::move(policy), layout, m.config, "activations");
  }
  std::vector<float>& run(std::span<const TokenId> block) {
    const model::Segment segment{context_.get(), block};
    context_->begin(block);
    transformer_.forward({&segment, 1}, attention_, act_);
    logits_.resize(block.size() * model_.config.vocabulary);
    transformer_.logits(act_.x.data(), static_cast<int64_t>(block.size()), logits_.data(),
                        scratch_);
    return logits_;
  }
  void finish(size_t rows, model::UnitStore& store, model::UnitCache& cache,
              kernels::ThreadPool& threads) {
    const int32_t hidden = model_.config.hidden;
    context_->finish(act_.x.data() + (rows - 1) * hidden, hidden, store, cache, threads);
  }

 private:
  const model::Model& model_;
  model::Transformer transformer_;
  model::ContextAttention attention_;
  std::unique_ptr<model::Context> context_;
  model::Activations act_;
  std::vector<float> logits_, scratch_;
};

int run(const std::string& path, const std::string& text_path, int64_t most, int64_t context) {
  const auto loaded = model::Model::load(path);
  std::ifstream file(text_path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<TokenId> tokens = loaded->tokenizer->encode(text);
  if (static_cast<int64_t>(tokens.size()) > most) tokens.resize(most);
  kernels::ThreadPool threads(std::max(1u, std::thread::hardware_concurrency()));
  const auto packed = model::pack_weights(*loaded, model::ActivationType::F32, threads);
  Variant variants[3];
  for (int v = 0; v < 3; ++v) {
    variants[v].weights = *packed;
    model::set_activations(variants[v].weights, static_cast<model::ActivationType>(v));
  }
  testing::MemoryUnits store;
  model::UnitCache cache(store);
  const int64_t vocabulary = loaded->config.vocabulary;
  constexpr int64_t kBlock = 512;
  for (int64_t start = 0; start + 1 < static_cast<int64_t>(tokens.size()); start += context) {
    const int64_t end = std::min<int64_t>(start + context, static_cast<int64_t>(tokens.size()));
    std::vector<std::unique_ptr<Pass>> passes;
    for (const Variant& v : variants) {
      passes.push_back(std::make_unique<Pass>(*loaded, v.weights, store, cache, threads));
    }
    for (int64_t at = start; at < end; at += kBlock) {
      const auto block = std::span(tokens).subspan(at, std::min(kBlock, end - at));
      std::vector<float>* first = nullptr;
      std::vector<int64_t> best(block.size());
      for (int i = 0; i < 3; ++i) {
        Variant& v = variants[i];
        std::vector<float>& logits = passes[i]->run(block);
        if (i == 0) first = &logits;
        for (size_t r = 0; r < block.size() && at + static_cast<int64_t>(r) + 1 < end; ++r) {
          float* row = logits.data() + r * vocabulary;
          const int64_t top = to_log_probabilities(row, vocabulary);
          if (i == 0) best[r] = top;
          v.loss -= row[tokens[at + r + 1]];
          v.same += top == best[r];
          ++v.counted;
          const float* exact = first->data() + r * vocabulary;
          for (int64_t t = 0; i > 0 && t < vocabulary; ++t) {
            v.divergence += std::exp(double{exact[t]}) * (double{exact[t]} - row[t]);
          }
        }
        passes[i]->finish(block.size(), store, cache, threads);
      }
    }
  }
  std::printf("%s, %s, %zu tokens in contexts of %lld\n", loaded->config.name.c_str(),
              text_path.c_str(), tokens.size(), static_cast<long long>(context));
  std::printf("%12s %12s %10s %12s %12s\n", "activations", "perplexity", "to f32", "same best",
              "divergence");
  const auto mean = [](double sum, const Variant& v) {
    return sum / static_cast<double>(v.counted);
  };
  const double base = std::exp(mean(variants[0].loss, variants[0]));
  for (int i = 0; i < 3; ++i) {
    const Variant& v = variants[i];
    const double perplexity = std::exp(mean(v.loss, v));
    std::printf("%12s %12.5f %+9.3f%% %11.3f%% %12.2e\n", kNames[i], perplexity,
                100 * (perplexity / base - 1), 100 * mean(static_cast<double>(v.same), v),
                mean(v.divergence, v));
  }
  return 0;
}

}  // namespace
}  // namespace ringtide

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: activations_bench MODEL TEXT [TOKENS [CONTEXT]]\n");
    return 2;
  }
  return ringtide::run(argv[1], argv[2], argc > 3 ? std::atoll(argv[3]) : 1 << 20,
                       argc > 4 ? std::atoll(argv[4]) : 2048);
}

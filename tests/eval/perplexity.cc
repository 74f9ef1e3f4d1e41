// Perplexity of a text under a model: exp of the mean negative log-likelihood of its tokens.
//
//   perplexity MODEL TEXT [--tokens N] [--chunk N] [--rows N] [--threads N] [--policy NAME] [--kv
//   f16|f32]
//
// The first N tokens of the text are cut into chunks. Each chunk is a context of its own, after bos
// where the model wants it; of its tokens all but the first count. Contexts are decoded `rows` at a
// time, a token each, as a server decodes sessions. perplexity_reference.py computes the same.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "model/engine.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "tests/support/memory_units.h"

using namespace ringtide;
using model::TokenId;

namespace {

double negative_log_likelihood(std::span<const float> logits, TokenId token) {
  const float top = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float l : logits) sum += std::exp(l - top);
  return top + std::log(sum) - logits[token];
}

int run(const std::string& path, const std::string& text_path,
        std::map<std::string, std::string> flags) {
  const auto count = [&](const char* name, size_t otherwise) {
    return flags.contains(name) ? std::stoul(flags[name]) : otherwise;
  };
  const size_t chunk = count("--chunk", 512), rows = count("--rows", 16);
  model::EngineOptions options;
  options.threads = static_cast<int>(count("--threads", 0));
  options.half_kv = flags["--kv"] != "f32";
  model::PolicyConfig policy;
  policy.kind = model::parse_policy(flags.contains("--policy") ? flags["--policy"] : "exact");

  const auto loaded = model::Model::load(path);
  std::ifstream in(text_path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + text_path);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::vector<TokenId> tokens = loaded->tokenizer->encode(text);
  tokens.resize(std::min(tokens.size(), count("--tokens", tokens.size())));
  std::vector<std::vector<TokenId>> chunks;
  for (size_t at = 0; at + 2 <= tokens.size(); at += chunk) {
    auto& c = chunks.emplace_back();
    if (loaded->tokenizer->adds_bos()) c.push_back(loaded->tokenizer->bos());
    c.insert(c.end(), tokens.begin() + at, tokens.begin() + std::min(at + chunk, tokens.size()));
  }

  testing::MemoryUnits units;
  const auto engine = model::make_cpu_engine(loaded, options, units);
  const auto start = std::chrono::steady_clock::now();
  double total = 0;
  size_t counted = 0;
  for (size_t first = 0; first < chunks.size(); first += rows) {
    const std::span group = std::span(chunks).subspan(first, std::min(rows, chunks.size() - first));
    for (size_t i = 0; i < group.size(); ++i) engine->open(i, policy);
    for (size_t at = 0;; ++at) {
      std::vector<model::DecodeRow> step;
      for (size_t i = 0; i < group.size(); ++i)
        if (at + 1 < group[i].size()) step.push_back({i, group[i][at]});
      if (step.empty()) break;
      engine->decode(step);
      // With bos before it, the first token of a chunk still does not count.
      if (at == 0 && loaded->tokenizer->adds_bos()) continue;
      for (const model::DecodeRow& row : step) {
        total += negative_log_likelihood(engine->logits(row.context), group[row.context][at + 1]);
        ++counted;
      }
    }
    for (size_t i = 0; i < group.size(); ++i) engine->close(i);
    std::fprintf(stderr, "\r%zu of %zu tokens, perplexity %.4f", counted, tokens.size(),
                 std::exp(total / static_cast<double>(counted)));
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::fprintf(stderr, "\n");
  std::printf("{\"tokens\": %zu, \"counted\": %zu, \"perplexity\": %.6f, \"seconds\": %.1f}\n",
              tokens.size(), counted, std::exp(total / static_cast<double>(counted)), seconds);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc % 2 == 0) {
    std::fprintf(stderr,
                 "usage: perplexity MODEL TEXT [--tokens N] [--chunk N] [--rows N] "
                 "[--threads N] [--policy NAME] [--kv f16|f32]\n");
    return 2;
  }
  std::map<std::string, std::string> flags;
  for (int i = 3; i < argc; i += 2) flags[argv[i]] = argv[i + 1];
  try {
    return run(argv[1], argv[2], flags);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "perplexity: %s\n", error.what());
    return 1;
  }
}

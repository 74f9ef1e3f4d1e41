// The slow truth: a forward pass in float64 that writes the attention policies' definitions down as
// they are stated, query by query and key by key. Shares no code with the engine.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "model/policy_config.h"
#include "model/types.h"
#include "tests/support/small_model.h"

namespace ringtide::testing {

class Reference {
 public:
  Reference(const SmallModel& model, const model::PolicyConfig& policy);

  // Runs one execution block; afterwards logits() are those of its last token.
  void run(std::span<const model::TokenId> block);
  const std::vector<double>& logits() const { return logits_; }
  // How often a query saw a key, over all layers: at most once each, if the definition is sound.
  bool seen_twice() const { return seen_twice_; }
  // Smallest gap between the relevance of the last unit or group taken and the first not taken.
  double closest_choice() const { return closest_choice_; }

 private:
  using Row = std::vector<double>;
  struct Layer {
    std::vector<Row> k, v, q;  // by position: (kv_heads * dim), (kv_heads * dim), (heads * dim)
    std::vector<std::vector<Row>> units;  // representatives: unit, head -> (dim)
    bool sliding = false;
  };
  Row rotate(const double* x, double position, bool sliding) const;
  double logit(const double* q, double q_at, const double* k, double k_at, bool sliding) const;
  std::vector<int64_t> best(std::vector<int64_t> all, int64_t count,
                            const std::map<int64_t, double>& relevance);
  std::map<int64_t, double> votes(const std::vector<int64_t>& all,
                                  const std::function<double(int, int64_t)>& score) const;
  std::vector<int64_t> choose(const Layer& layer, int64_t begin, int64_t end);
  void attend(Layer& layer, int64_t position, const std::vector<int64_t>& units, double* out);
  void represent(Layer& layer, int64_t unit);
  int64_t sealed(int64_t processed) const;

  const SmallModel& m_;
  model::PolicyConfig policy_;
  std::vector<Layer> layers_;
  int64_t processed_ = 0;
  std::vector<double> logits_;
  bool seen_twice_ = false;
  double closest_choice_ = 1e30;
};

}  // namespace ringtide::testing

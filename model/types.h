// What the rooms above the model speak of: tokens, errors, sampling.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace ringtide::model {

using TokenId = int32_t;

// A model file, tokenizer or template that cannot be used: names the file's field, what is wrong with
// it and, where there is a way, what to do.
struct ModelError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct SamplingParams {
  float temperature = 0.0f;  // 0: greedy, and the filters below are idle
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f;        // 1: off
  float min_p = 0.0f;        // 0: off
  float repetition_penalty = 1.0f;  // 1: off; over the last `penalty_window` tokens
  int32_t penalty_window = 256;
  // The random number of a token is a function of (seed, its position): there is no hidden state, and
  // a session that re-enters from its log draws the same numbers.
  uint64_t seed = 0;
};

}  // namespace ringtide::model

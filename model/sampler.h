// Choosing a token from logits. Pure: the same inputs give the same token.
//
// In this order:
//   penalty      each distinct token of the last `penalty_window` of `recent`: a positive logit is
//                divided by the penalty, any other multiplied with it (Keskar et al. 2019, CTRL)
//   greedy       temperature not above 0 (or not a number): the highest logit, and the end
//   top-k        the k highest logits
//   temperature  probabilities proportional to exp(logit / temperature)
//   min-p        those of at least min_p times the highest probability
//   top-p        of what is left, the fewest highest that together hold at least top_p of it
//                (Holtzman et al. 2020)
//   draw         by uniform(seed, position) of model/random.h, walking what is left by id
// Ties go to the lower id, also at the edge of top-k and top-p. The most likely token always stays.
//
// A logit that is NaN counts as -inf; -inf is never drawn, unless all are: then token 0 is the
// answer. Where there are +inf, they share the probability evenly. Parameters outside their range
// (top_k <= 0, top_p outside (0, 1), min_p outside (0, 1], a penalty that is not positive and
// finite) switch their filter off, but for top_p <= 0 and min_p > 1, which keep the most likely
// tokens only. Tokens of `recent` outside the vocabulary are passed over.
#pragma once

#include <cstdint>
#include <span>

#include "model/types.h"

namespace ringtide::model {

// `recent`: the tokens before, newest last, for the repetition penalty. `position`: of the token to
// be chosen, for the random number. `logits` (vocabulary) is scratch and may be overwritten.
// REQUIRES: logits is not empty. Any thread.
TokenId sample(std::span<float> logits, std::span<const TokenId> recent, int64_t position,
               const SamplingParams& params);

}  // namespace ringtide::model

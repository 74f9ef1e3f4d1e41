// Choosing a token from logits. Pure: the same inputs give the same token.
#pragma once

#include <cstdint>
#include <span>

#include "model/types.h"

namespace ringtide::model {

// `recent`: the tokens before, newest last, for the repetition penalty. `position`: of the token to be
// chosen, for the random number. Order: penalty, top-k, temperature, min-p, top-p, draw; ties go to
// the lower id. `logits` is scratch and may be overwritten.
TokenId sample(std::span<float> logits, std::span<const TokenId> recent, int64_t position,
               const SamplingParams& params);

}  // namespace ringtide::model

// Speed of an engine: prompts of several lengths, generation at several depths of context, alone
// and for several sessions at once. Text is random tokens; what is predicted does not matter.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/engine.h"
#include "model/policy_config.h"

namespace ringtide::model {

// Seconds since some moment; processor time of the whole process serves on a machine that is not
// quiet, with one thread.
using Clock = double (*)();
double wall_seconds();
double processor_seconds();

// Of several runs, units a second.
struct Spread {
  double median = 0, low = 0, high = 0;
};
Spread spread(std::vector<double> values);  // REQUIRES: not empty

struct SpeedPlan {
  PolicyConfig policy;
  int64_t vocabulary = 0;
  int repeats = 5;
  int64_t steps = 32;  // tokens generated a repetition, of each session
  Clock clock = wall_seconds;
};

// Tokens a second of a prompt of so many tokens, read into an empty context.
Spread prompt_speed(Engine& engine, const SpeedPlan& plan, int64_t tokens);

// Tokens a second after `context` tokens each, and of having read these: once by each session.
struct GenerationSpeed {
  Spread generation;  // of all `batch` sessions together
  Spread prompt;
  Spread last_block;  // of the prompt, all before it attended to
};
GenerationSpeed generation_speed(Engine& engine, const SpeedPlan& plan, int64_t context,
                                 int64_t batch);

// Bytes a second that `threads` threads copy, read and written bytes both counted.
double copy_speed(int threads, Clock clock);

}  // namespace ringtide::model

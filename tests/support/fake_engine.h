// An engine without a model: its tokens are hashes of everything that was run.
//
// A sampled token depends on all tokens and on the lengths of all blocks, so that a lost or doubled
// token, or another cutting, changes whatever comes after. `FakeWorld` is the tests' hand in it: it
// outlives engines, counts what they do, holds them at gates and makes them fail.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "model/engine.h"

namespace ringtide::testing {

struct FakePass {
  enum class Kind { Open, Restore, Replay, Prefill, Decode, HandOver } kind;
  std::vector<uint64_t> contexts;
  int64_t tokens = 0;
};

class FakeWorld {
 public:
  // Engines made from it may be called at once from their own threads.
  std::unique_ptr<model::Engine> make(model::UnitStore* units = nullptr);

  // Set before the engines work.
  size_t max_contexts = 1000;  // OutOfBudget above
  int32_t end_every = 0;       // about one token in so many ends the turn; 0: none
  int32_t unit = 0;            // seals a unit every so many tokens; 0: never
  int late = 0;                // hand_over()s after a pass until its units are with the store

  // Called before each pass, and before units are handed over late, on the engine's thread, without a
  // lock; may throw or wait.
  void before_pass(std::function<void(const FakePass&)> hook);

  std::vector<FakePass> passes() const;
  int64_t count(FakePass::Kind kind) const;
  // Waits until there was a pass for which `holds` is true; false after a minute.
  bool wait_for(const std::function<bool(const FakePass&)>& holds) const;
  int engines() const;

 private:
  friend class FakeEngine;
  void note(const FakePass& pass);

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<FakePass> passes_;
  std::function<void(const FakePass&)> hook_;
  int engines_ = 0;
};

// A door that engines wait at until it opens.
class Gate {
 public:
  void open();
  void wait();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

}  // namespace ringtide::testing

// Making a context again from its history: stored units stand in for the passes that made them.
//
// A pass needs, of the past, only what is in reach: the pages not sealed, the sinks, the index and
// the units it selects. So a context can be taken up at any block's end that is also a page's end,
// if the pages from there back through the window are stored, and the index entries of all before:
// summaries of its full groups, and the units of the open one. Since pages are stored when they are
// full, that leaves a block to be run again. Work is done in steps of one block, so that the engine
// can serve others between them. Short blocks, as each generated token is one, go together in a step,
// up to the length of a block.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/history.h"
#include "model/resumable.h"
#include "model/unit_store.h"

namespace ringtide::model {

// What restoring needs of the engine.
struct Passes {
  std::function<std::unique_ptr<Resumable>()> make_context;  // empty, of the history's policy
  // Blocks of these lengths, in one pass.
  std::function<void(Resumable&, std::span<const TokenId>, std::span<const size_t> lengths)> run;
  UnitStore& store;
  // Blocks of at most so many tokens have the same bits in a pass with others; 0: none has.
  int64_t joined = 0;
};

// The last block end at or before `limit` tokens, and before the history's end, at which a context
// whose pages have these keys can be taken up with what the store has; 0: only from the start.
TakeUp find_take_up(const History& history, std::span<const UnitKey> pages, int64_t limit,
                    UnitStore& store);

// Lost units, sealed and put once more: runs what is needed for them, lowest first.
class Rebuild {
 public:
  explicit Rebuild(std::vector<int64_t> units);  // any order, at least one
  bool done() const { return units_.empty(); }
  int64_t rebuilt() const {
    return rebuilt_;
  }  // so far; those that turned out to be lost on the way, too
  // One pass's work.
  void step(const History& history, const Passes& passes);

 private:
  void add(const std::vector<int64_t>& units);
  void begin(const History& history, const Passes& passes);
  std::vector<int64_t> units_;  // still to be rebuilt, ascending
  std::unique_ptr<Resumable> context_;
  int failures_ = 0;
  int64_t rebuilt_ = 0;
};

// A context on its way back.
class Return {
 public:
  explicit Return(History history) : history_(std::move(history)) {}
  // One step. Afterwards done() and total() say how far it is; total may grow when units turn out
  // to be lost.
  void step(const Passes& passes);
  bool finished() const { return context_ && context_->processed() == history_.tokens(); }
  int64_t done() const { return done_; }    // tokens run
  int64_t total() const { return total_; }  // tokens that have to be
  // Units and pages that were lost and are there again.
  int64_t rebuilt() const { return rebuilt_; }
  std::unique_ptr<Resumable> take() { return std::move(context_); }
  const History& history() const { return history_; }

 private:
  void begin(const Passes& passes);
  History history_;
  std::unique_ptr<Rebuild> rebuild_;
  std::unique_ptr<Resumable> context_;
  int failures_ = 0;
  int64_t done_ = 0, total_ = 0, rebuilt_ = 0;
};

}  // namespace ringtide::model

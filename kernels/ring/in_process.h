// A ring of threads of one process. Messages are copied; a link holds at most two.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "kernels/ring/transport.h"

namespace ringtide::kernels::ring {

class InProcessRing {
 public:
  InProcessRing(int shards, std::chrono::milliseconds deadline);
  ~InProcessRing();
  InProcessRing(const InProcessRing&) = delete;
  InProcessRing& operator=(const InProcessRing&) = delete;

  Transport& at(int shard);
  // Bytes that a shard has sent to the next one so far.
  int64_t sent(int shard) const;

 private:
  struct State;
  class End;
  std::unique_ptr<State> state_;
  std::vector<std::unique_ptr<End>> ends_;
};

}  // namespace ringtide::kernels::ring

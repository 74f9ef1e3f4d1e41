// The last words of `ask`: what was done, how fast, where it is kept, how to go on.
#pragma once

#include <optional>
#include <string>

#include "deploy/describe.h"
#include "protocol/service.h"

namespace ringtide::deploy {

struct Summary {
  protocol::SessionInfo session;  // at the end
  int64_t ingested = 0;           // tokens run for what was appended, before the answer began
  double ingest_seconds = 0;      // from the first byte sent until they had run
  std::optional<protocol::GenerateResult> generation;
  std::string resume;
};

std::string show(const Summary& summary);
Json to_json(const Summary& summary);

}  // namespace ringtide::deploy

// Where a session's log stands between records: what the next record depends on.
//
// Pure: follows from the records alone. Fed once per record as it is sent to the archive and once
// as it is durable, so that records can be composed ahead of the disk by the same rules.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "storage/records.h"

namespace ringtide::actors {

struct TurnState {
  uint64_t records = 0;  // so far: the sequence of the next one
  uint64_t offset = 0;   // bytes of text appended
  std::string tail;      // text that is appended and not tokens yet
  int64_t tokens = 0;
  bool begun = false;               // text was appended: what starts a conversation is written
  bool user_turn = false;           // a user turn is open
  bool inside_text = false;         // the text goes on after some of it that is tokens
  bool answered = false;            // generation began, ever
  bool answering = false;           // generation began and has not ended
  int64_t answer_tokens = 0;        // generated since generation began
  std::vector<int32_t> answer_end;  // the last few of them

  void apply(const storage::LogRecord& record);
};

}  // namespace ringtide::actors

// What `ask` and `chat` do with an open session.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "deploy/connection.h"
#include "deploy/options.h"
#include "deploy/progress.h"
#include "protocol/client.h"

namespace ringtide::deploy {

struct Conversation {
  Connection connection;
  std::unique_ptr<protocol::ClientSession> session;  // gone before the connection
  protocol::SessionInfo opened;                      // as it was found or made
  bool created = false;
  std::string resume;  // the command line that goes on with this session
};

// Connects, opens, and waits until a stored session is back in memory. Ctrl-C then tells how to
// resume: with `command`, "ask" or "chat".
Conversation open_conversation(const char* command, const TargetOptions& target,
                               const SessionOptions& options, Progress& progress);

// Does `work` with an open session; where that loses the connection, the Failure tells how to
// resume too.
void converse(const Conversation& conversation, const std::function<void()>& work);

// Throws Failure (Usage) where a server would refuse the parameters: before anything is appended.
void require_valid(const protocol::GenerateParams& params);

// Until everything that fills execution blocks has run; draws "restoring" and "ingesting".
void wait_ingested(protocol::ClientSession& session, Progress& progress);

// Reads files one after the other ("-": standard input), then `last`, in pieces. Throws Failure
// where a file cannot be read, before anything is sent.
class TextSource {
 public:
  TextSource(const std::vector<std::string>& files, std::string last);
  ~TextSource();
  int64_t total_bytes() const { return known_ ? total_ : 0; }  // 0: not known
  bool empty() const { return known_ && total_ == 0; }         // for sure
  std::string next();                                          // empty: the end

 private:
  std::vector<std::FILE*> files_;
  std::string last_;
  int64_t total_ = 0;
  bool known_ = true;  // a pipe is as long as it is
};

// Streams the answer into `chunk`, which returns false to cancel it; draws what a stored session
// runs first. Ctrl-C cancels too; a second one ends the process.
protocol::GenerateResult answer(protocol::ClientSession& session,
                                const protocol::GenerateParams& params, Progress& progress,
                                const std::function<bool(const protocol::TextChunk&)>& chunk);

}  // namespace ringtide::deploy

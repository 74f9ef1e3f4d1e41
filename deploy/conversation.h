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
// resume.
Conversation open_conversation(const TargetOptions& target, const SessionOptions& options,
                               Progress& progress);

// Until everything that fills execution blocks has run; draws "restoring" and "ingesting".
void wait_ingested(protocol::ClientSession& session, Progress& progress);

// Reads files one after the other ("-": standard input), then `last`, in pieces. Throws Failure
// where a file cannot be read, before anything is sent.
class TextSource {
 public:
  TextSource(const std::vector<std::string>& files, std::string last);
  ~TextSource();
  int64_t total_bytes() const { return total_; }  // 0: not known
  std::string next();                             // empty: the end

 private:
  std::vector<std::FILE*> files_;
  std::string last_;
  int64_t total_ = 0;
};

// Streams the answer into `chunk`. Ctrl-C cancels it; a second one ends the process.
protocol::GenerateResult answer(protocol::ClientSession& session,
                                const protocol::GenerateParams& params, Progress& progress,
                                const std::function<void(const protocol::TextChunk&)>& chunk);

}  // namespace ringtide::deploy

// What the RPC server asks of the service behind it, without RPC types: the joint between protocol
// and actors.
//
// The server calls from its loop thread and never blocks there; the service answers through the
// callbacks, from any thread, each exactly once. Outcomes a client should handle are codes of
// Outcome; they become unions on the wire.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ringtide::protocol {

enum class Code : uint8_t {
  Ok,
  NotFound,        // no such session
  Exists,          // the name is taken and the caller asked for a new one
  Invalid,         // an argument is wrong
  OffsetMismatch,  // append at an offset the session does not hold; Outcome::offset is what it
                   // holds
  Busy,            // the session is generating, or attached elsewhere
  Overloaded,      // a limit of the server: sessions, memory, queued bytes
  ModelMismatch,   // the stored session was made with another model
  StorageFull,     // nothing acknowledged is lost; writes are refused until there is room
  Storage,         // the store failed
  Internal,
  Stopping,  // the server is going down; come back later, by id
};

struct Outcome {
  Code code = Code::Ok;
  std::string message;  // for a person: what is wrong and what to do
  uint64_t offset = 0;  // with OffsetMismatch
  bool ok() const { return code == Code::Ok; }
};

template <class T>
using Reply = std::function<void(Outcome, T)>;  // T is meaningful only if the outcome is ok

// Attention policy by name and numbers; 0 or empty: the server's default.
struct Policy {
  std::string name;  // "exact" | "streaming" | "infllm"
  int32_t window = 0, sinks = -1, unit = 0, block = 0, select = 0,
          representatives = 0;  // sinks -1: default
  std::string vote;             // "sum" | "softmax"
  int32_t probe = 0;
};

struct OpenRequest {
  std::string name;                   // 1 to 200 bytes of printable UTF-8; or
  uint64_t id = 0;                    // an id of an earlier open; 0: by name
  bool must_exist = false;            // NotFound rather than a new session
  bool must_create = false;           // Exists rather than a resumed one
  Policy policy;                      // of a new session; a resumed one keeps its own
  std::string template_family;        // of a new session: "" or "auto", "raw", "chatml", ...
  std::optional<std::string> system;  // of a new session: system prompt; absent: the model's own
};

struct ShardInfo {  // what a shard of a ring holds of a session
  std::string name;
  bool answers = true;  // false: it did not in time, and the numbers are 0
  int64_t units = 0;    // in its store; copies count
  int64_t bytes_ram = 0, bytes_store = 0;
};

struct SessionInfo {
  std::string name;
  uint64_t id = 0;
  int64_t created_ms = 0;
  std::string state;  // "stored" | "restoring" | "idle" | "ingesting" | "generating" | "corrupt"
  std::string policy;
  std::string template_family;
  int64_t tokens = 0;           // in the log
  int64_t processed = 0;        // of them, run through the model
  uint64_t appended_bytes = 0;  // of text appended and acknowledged: the offset of the next append
  int64_t units = 0;
  int64_t bytes_gpu = 0, bytes_ram = 0, bytes_store = 0;
  int64_t units_selected = 0, reads_ram = 0, reads_store = 0, units_recomputed = 0;
  int64_t to_restore = 0, restored = 0;  // tokens, while restoring
  int64_t run_again = 0;                 // tokens, when it came back into memory last
  std::vector<ShardInfo> shards;         // only from Service::info, and only of a ring
};

struct ServerInfo {
  std::string version, model, fingerprint, store;
  int64_t trained_context = 0, parameters_bytes = 0;
  int64_t ram_budget = 0, ram_used = 0, gpu_budget = 0, gpu_used = 0;
  int64_t store_bytes = 0, sessions = 0, active = 0;
  int32_t threads = 0;
};

struct GenerateParams {
  int64_t max_tokens = 256;
  float temperature = 0, top_p = 1, min_p = 0, repetition_penalty = 1;
  int32_t top_k = 0, penalty_window = 256;
  uint64_t seed = 0;
  std::vector<std::string> stop;  // texts that end generation, not shown
};

enum class FinishReason : uint8_t { EndOfTurn, MaxTokens, StopText, Cancelled, Error };

// Text that became sure, with the tokens it is made of. Durable when it is sent.
struct TextChunk {
  std::string text;
  std::vector<int32_t> tokens;
};

struct GenerateResult {
  FinishReason reason = FinishReason::Error;
  int64_t prompt_tokens = 0;  // run before the first token: what waited when generation began
  int64_t generated_tokens = 0;
  double seconds_to_first = 0;  // from the call to the first token
  double seconds = 0;           // from the first token to the last
  int64_t units_selected = 0, reads_ram = 0, reads_store = 0;
};

// Longest text that tokenize() takes: its tokens are one message, of up to 32 bytes each.
constexpr size_t kMostTokenizedBytes = 64 << 10;

// Where a generation goes. Made by the server, called by the service from any thread, in order.
class TextSink {
 public:
  virtual ~TextSink() = default;
  // `taken` is called when the client's flow control has let the chunk through, or the client is
  // gone (false): the service keeps few chunks outstanding and pauses the session above that.
  virtual void push(TextChunk chunk, std::function<void(bool)> taken) = 0;
};

// One client's hold on a session. Dropping it pauses the session; nothing is lost.
class SessionHandle {
 public:
  virtual ~SessionHandle() = default;
  // Text at `offset` (bytes appended so far), or wherever the session is if absent. Two replies:
  // `accepted` when there is room for the next one (flow control), `durable` with the offset after
  // it once it is in the log. A failed one is answered in both.
  virtual void append(std::string text, std::optional<uint64_t> offset,
                      std::function<void(Outcome)> accepted, Reply<uint64_t> durable) = 0;
  // Answers when generation has ended. Returned function cancels it; calling it late is harmless.
  virtual std::function<void()> generate(const GenerateParams& params,
                                         std::shared_ptr<TextSink> sink,
                                         Reply<GenerateResult> done) = 0;
  virtual void info(Reply<SessionInfo> reply) = 0;
};

class Service {
 public:
  virtual ~Service() = default;
  virtual void open(
      const OpenRequest& request,
      std::function<void(Outcome, std::shared_ptr<SessionHandle>, SessionInfo, bool created)>
          reply) = 0;
  virtual void list(Reply<std::vector<SessionInfo>> reply) = 0;
  // By id if not 0, else by name; of a session that need not be open.
  virtual void info(const std::string& name, uint64_t id, Reply<SessionInfo> reply) = 0;
  virtual void remove(const std::string& name, uint64_t id, std::function<void(Outcome)> reply) = 0;
  // Of at most kMostTokenizedBytes.
  virtual void tokenize(std::string text,
                        Reply<std::vector<std::pair<int32_t, std::string>>> reply) = 0;
  virtual void server(Reply<ServerInfo> reply) = 0;
};

}  // namespace ringtide::protocol

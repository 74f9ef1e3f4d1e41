# The wire protocol of Ringtide: sessions of a language model whose context never ends.
#
# A client connects (TCP or a Unix socket, Cap'n Proto's two-party RPC, no TLS) and gets `Ringtide` as
# the bootstrap capability. It opens a session, streams text into it, and asks for answers that
# stream back:
#
#     opened   = server.open(session = (name = "notes"))
#     stream   = opened.session.append(offset = opened.info.appendedBytes).stream
#     stream.write(text) ...; stream.end()          # all of it is durable
#     outcome  = opened.session.generate(params, sink)   # calls sink.chunk(...) ..., sink.done()
#
# What a client should handle comes as a union with `error`; an exception means a fault: a broken
# connection, a request outside the protocol (a message above the server's limit, 4 MiB unless it
# says otherwise, ends the connection), a bug.
#
# Losing the connection loses nothing that was acknowledged. Whatever generation was under way is
# cancelled, the session is released, and it can be opened again by name or id; what `SessionInfo`
# then says was appended is where the text goes on, so that nothing is sent twice.
#
# Fields and methods are only ever added, with numbers of their own: older clients keep working.
@0xb8cf3e43bd714f96;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("ringtide::protocol::wire");

enum Code {
  ok @0;
  notFound @1;        # No such session.
  exists @2;          # The name is taken, and the caller asked for a new session.
  invalid @3;         # An argument is wrong; the message says which.
  offsetMismatch @4;  # Append at an offset the session does not hold; Error.offset is what it holds.
  busy @5;            # The session is generating, or attached elsewhere.
  overloaded @6;      # A limit of the server is reached: sessions, memory, queued bytes.
  modelMismatch @7;   # The stored session was made with another model.
  storageFull @8;     # Nothing acknowledged is lost; writes are refused until there is room.
  storage @9;         # The store failed.
  internal @10;       # A fault of the server.
  stopping @11;       # The server is going down; come back later and open by name or id.
}

struct Error {
  code @0 :Code;
  message @1 :Text;   # For a person: what is wrong and what to do.
  offset @2 :UInt64;  # With offsetMismatch: the bytes of appended text the session holds.
}

interface Ringtide {
  # The server. Every method may be called at any time, also while others are in flight.

  open @0 OpenRequest -> OpenResult;
  # Opens a session: a new one, or one that exists and goes on where it was.

  list @1 () -> ListResult;
  # Every session the server knows, open or stored; `overloaded` where one message cannot hold them:
  # about 18,000 at the server's default.

  info @2 (session :SessionRef) -> InfoResult;
  # One session, which need not be open.

  remove @3 (session :SessionRef) -> RemoveResult;
  # Deletes a session and all it stored; `busy` while it is generating. Whoever holds it finds out
  # by the errors of their next calls.

  tokenize @4 (text :Data) -> TokenizeResult;
  # The tokens of a text of at most 64 KiB under the server's model. No session is touched.

  server @5 () -> ServerResult;
  # The server itself: version, model, budgets and their use.
}

interface Session {
  # A hold on one session. Dropping it, and the streams made from it, pauses the session and releases
  # it; nothing is lost. The server drops it when the connection ends.

  append @0 AppendRequest -> (stream :TextStream);
  # A stream of text into the session. Answers at once: a wrong offset is reported by the stream.
  # In a session with a chat template all text between two answers is one turn of the user's; its
  # marks are written by the server.

  generate @1 (params :GenerateParams, sink :TextSink) -> GenerateOutcome;
  # Generates, pushing text to `sink` as it becomes sure. Returns once the sink has handled all of it
  # and `done`. Dropping the call cancels the generation; what the sink was sent stays in the session.
  # `invalid` where there is nothing to answer: no text yet or, with a chat template, none since the
  # last answer. Without a template it goes on with the text.

  cancel @2 ();
  # Ends the generation under way, which then returns with reason `cancelled`. Harmless without one.

  info @3 () -> InfoResult;
}

interface TextStream {
  # Text on its way into a session, in pieces that may be cut anywhere, also inside a UTF-8 character.
  # After a failed write later ones are dropped; `position` and `end` tell. Dropping the stream without
  # `end` keeps what was written.

  write @0 (text :Data) -> stream;
  # The next bytes, 64 KiB or so. Flow control: returns when the session has room for more, which is
  # before the bytes are durable.

  position @1 () -> Position;
  # How far the stream has come once the writes before this call have been accepted. Does not wait
  # for them to be durable.

  end @2 () -> EndResult;
  # Waits until everything written is durable. The stream takes no more writes.
}

interface TextSink {
  # Where generated text goes. Implemented by the client.

  chunk @0 (text :Text, tokens :List(Int32)) -> stream;
  # The next text, whole UTF-8 characters, and the tokens it is made of. It is durable in the session.
  # The last chunk may have tokens and no text: they end a character that never came, or a stop text.
  # Return when there is room for more: the server sends a bounded number of bytes ahead, then pauses.

  done @1 ();
  # No more chunks follow.
}

struct SessionRef {
  # A session: by id if that is not 0, else by name.
  id @0 :UInt64;
  name @1 :Text;
}

struct Policy {
  # The attention policy of a session. 0 or empty: the server's default.
  name @0 :Text;              # "exact", "streaming", "infllm".
  window @1 :Int32;           # Tokens attended to directly.
  sinks @2 :Int32 = -1;       # First tokens always attended to; -1: default.
  unit @3 :Int32;             # Tokens in a retrieval unit.
  block @4 :Int32;            # Tokens in an execution block.
  select @5 :Int32;           # Units retrieved at a time.
  representatives @6 :Int32;  # Tokens that stand for a unit in its index.
  vote @7 :Text;              # "sum" or "softmax": how heads agree on units.
  probe @8 :Int32;            # Groups of 64 units whose units are compared one by one.
}

struct OpenRequest {
  session @0 :SessionRef;      # The name is 1 to 200 bytes of printable UTF-8.
  mode @1 :Mode;
  policy @2 :Policy;           # Of a new session; a resumed one keeps its own.
  templateFamily @3 :Text;     # Of a new session: "" or "auto" (the model's own), "raw" (none), "chatml", ...
  system :union {              # Of a new session: the system prompt.
    default @4 :Void;          # The model's own.
    text @5 :Text;             # May be empty: none.
  }

  enum Mode {
    any @0;     # Resume it if it exists, else create it.
    resume @1;  # `notFound` rather than a new session.
    create @2;  # `exists` rather than a resumed one.
  }
}

struct OpenResult {
  union {
    error @0 :Error;
    opened :group {
      session @1 :Session;
      info @2 :SessionInfo;
      created @3 :Bool;
    }
  }
}

struct SessionInfo {
  name @0 :Text;
  id @1 :UInt64;
  createdMs @2 :Int64;        # Since the Unix epoch.
  state @3 :Text;             # "stored", "restoring", "idle", "ingesting", "generating"; "corrupt":
                              # what is stored of it cannot be read, and it does not open.
  policy @4 :Text;
  templateFamily @5 :Text;    # "model": its own, "raw": none, or a family's name.
  tokens @6 :Int64;           # In the log.
  processed @7 :Int64;        # Of them, run through the model.
  appendedBytes @8 :UInt64;   # Text appended and acknowledged: the offset of the next append.
  units @9 :Int64;            # Of consecutive tokens, complete; in the store or on their way.
  bytesGpu @10 :Int64;
  bytesRam @11 :Int64;
  bytesStore @12 :Int64;
  unitsSelected @13 :Int64;   # Retrieved units attended to, since the session was opened.
  readsRam @14 :Int64;        # Of them, found in host memory.
  readsStore @15 :Int64;      # Of them, read from the store.
  unitsRecomputed @16 :Int64; # Stored units that did not verify and were computed again.
  toRestore @17 :Int64;       # Tokens to run while restoring,
  restored @18 :Int64;        # and how many of them have been.
  shards @19 :List(Shard);    # Only from Ringtide.info: of a ring, who holds what of it.
  runAgain @20 :Int64;        # Tokens of the past that were, when it came back into memory last.

  struct Shard {
    name @0 :Text;
    answers @1 :Bool;         # False: it did not in time, and the numbers are 0.
    units @2 :Int64;          # In its store; copies count.
    bytesRam @3 :Int64;
    bytesStore @4 :Int64;     # Of units; of the leader too.
  }
}

struct InfoResult {
  union {
    error @0 :Error;
    info @1 :SessionInfo;
  }
}

struct ListResult {
  union {
    error @0 :Error;
    sessions @1 :List(SessionInfo);
  }
}

struct RemoveResult {
  union {
    error @0 :Error;
    removed @1 :Void;
  }
}

struct TokenizeResult {
  union {
    error @0 :Error;
    tokens @1 :List(Token);
  }

  struct Token {
    id @0 :Int32;
    text @1 :Data;  # Its bytes, which may be part of a UTF-8 character.
  }
}

struct ServerInfo {
  version @0 :Text;
  model @1 :Text;             # Its name, as its file has it.
  fingerprint @2 :Text;       # Of its weights and tokenizer: sessions stay with it.
  store @3 :Text;             # The folder, on the server's machine.
  trainedContext @4 :Int64;   # Tokens.
  parametersBytes @5 :Int64;
  ramBudget @6 :Int64;        # Bytes, as the following.
  ramUsed @7 :Int64;
  gpuBudget @8 :Int64;
  gpuUsed @9 :Int64;
  storeBytes @10 :Int64;      # Of all units in RocksDB.
  sessions @11 :Int64;        # Stored or open.
  active @12 :Int64;          # Of them, those whose keys and values are in memory.
  threads @13 :Int32;         # That compute.
}

struct ServerResult {
  union {
    error @0 :Error;
    server @1 :ServerInfo;
  }
}

struct AppendRequest {
  # Where the text goes. Naming the offset makes an append exactly-once across reconnects: after a lost
  # connection go on at the `appendedBytes` that `open` answers, and send nothing twice.
  union {
    anywhere @0 :Void;   # After whatever the session holds.
    offset @1 :UInt64;   # Bytes appended before this text; `offsetMismatch` if it holds another number.
  }
}

struct Position {
  bytes @0 :UInt64;  # Of this stream, durable.
  failed @1 :Bool;   # A write has failed: stop, and ask `end` why.
}

struct EndResult {
  union {
    error @0 :Error;
    offset @1 :UInt64;  # After the last byte, all of it durable: where the next append starts.
  }
}

struct GenerateParams {
  maxTokens @0 :Int64 = 256;
  temperature @1 :Float32 = 0;  # 0: greedy.
  topP @2 :Float32 = 1;
  minP @3 :Float32 = 0;
  repetitionPenalty @4 :Float32 = 1;
  topK @5 :Int32 = 0;           # 0: all.
  penaltyWindow @6 :Int32 = 256;
  seed @7 :UInt64 = 0;
  stop @8 :List(Text);          # Texts that end generation, not shown.
}

struct GenerateOutcome {
  union {
    error @0 :Error;
    result @1 :GenerateResult;
  }
}

enum FinishReason {
  endOfTurn @0;
  maxTokens @1;
  stopText @2;
  cancelled @3;
  error @4;
}

struct GenerateResult {
  reason @0 :FinishReason;
  promptTokens @1 :Int64;       # Run before the first token: what waited when generation began.
  generatedTokens @2 :Int64;
  secondsToFirst @3 :Float64;   # From the call to the first token.
  seconds @4 :Float64;          # From the first token to the last.
  unitsSelected @5 :Int64;
  readsRam @6 :Int64;
  readsStore @7 :Int64;
}

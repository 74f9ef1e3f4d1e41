// ringtide ask: append text to a session, and have it answered.
#include <fmt/core.h>
#include <unistd.h>

#include <chrono>
#include <memory>

#include "deploy/commands.h"
#include "deploy/conversation.h"
#include "deploy/describe.h"
#include "deploy/failure.h"
#include "deploy/output.h"
#include "deploy/summary.h"

namespace ringtide::deploy {

namespace {

struct AskOptions {
  TargetOptions target;
  SessionOptions session;
  protocol::GenerateParams params;
  std::vector<std::string> append;
  std::string prompt;
  uint64_t offset = 0;
  const CLI::Option* offset_flag = nullptr;
  bool generate = false, no_wait = false, json = false, quiet = false, progress = false;

  bool appends() const { return !append.empty() || !prompt.empty(); }
  bool generates() const {
    return params.max_tokens > 0 && (generate || !prompt.empty() || append.empty());
  }
};

using Clock = std::chrono::steady_clock;

// Sends the text; where `wait` is set, until it has run. Fills in what was ingested.
void append(const AskOptions& options, Conversation& c, TextSource& source, Progress& progress,
            Summary& summary) {
  const auto began = Clock::now();
  const int64_t before = c.opened.processed;
  std::optional<uint64_t> offset;
  if (options.offset_flag->count() > 0) offset = options.offset;
  const bool typed = source.total_bytes() == 0 && isatty(STDIN_FILENO) == 1;
  if (!typed) progress.start("sending", "bytes", source.total_bytes());
  const uint64_t after = c.session->append(
      [&] { return source.next(); }, offset,
      [&](uint64_t durable) {
        progress.update(static_cast<int64_t>(durable), source.total_bytes());
        if (!options.json) return;
        print_line({{"event", "acknowledged"}, {"offset", c.opened.appended_bytes + durable}});
      });
  progress.stop();
  if (options.json) print_line({{"event", "appended"}, {"offset", after}});
  if (options.no_wait) return;
  wait_ingested(*c.session, progress);
  summary.ingested = c.session->info().processed - before;
  summary.ingest_seconds = std::chrono::duration<double>(Clock::now() - began).count();
}

void generate(const AskOptions& options, Conversation& c, Progress& progress, Summary& summary) {
  bool ends_line = true;
  const auto take = [&](const protocol::TextChunk& chunk) {
    if (options.json) {
      return try_print(
          to_line({{"event", "text"}, {"text", chunk.text}, {"tokens", chunk.tokens}}));
    }
    if (!chunk.text.empty()) ends_line = chunk.text.back() == '\n';
    return try_print(chunk.text);
  };
  try {
    summary.generation = answer(*c.session, options.params, progress, take);
  } catch (...) {
    if (!ends_line) try_print("\n");  // what is said of it is on a line of its own
    throw;
  }
  require_printed();
  if (!ends_line) print("\n");
}

void require_whole(const Summary& summary) {
  if (!summary.generation) return;
  if (summary.generation->reason == protocol::FinishReason::Error) {
    throw Failure(Exit::Failed, "generation ended with an error; the server's log says which");
  }
  if (summary.generation->reason == protocol::FinishReason::Cancelled) {
    throw Failure(Exit::Interrupted, "interrupted: the answer so far is kept in the session");
  }
}

void ask(const AskOptions& options) {
  if (options.generates()) require_valid(options.params);
  TextSource source(options.append, options.prompt);
  SessionOptions session = options.session;
  if (source.empty()) {
    if (session.only_new) {
      throw Failure(Exit::Usage, "a new session needs text: give --append FILE or --prompt TEXT");
    }
    session.only_existing = true;
  }
  Progress progress(!options.json && wants_progress(options.progress));
  Conversation c = open_conversation("ask", options.target, session, progress);
  if (options.json) {
    print_line({{"event", "opened"}, {"created", c.created}, {"session", to_json(c.opened)}});
  }
  Summary summary;
  summary.resume = c.resume;
  converse(c, [&] {
    if (options.appends()) append(options, c, source, progress, summary);
    if (options.generates()) generate(options, c, progress, summary);
    summary.session = c.session->info();
  });
  if (options.json) {
    Json done = {{"event", "done"}};
    done.update(to_json(summary));
    print_line(done);
  } else if (!options.quiet) {
    fmt::print(stderr, "{}", show(summary));
  }
  require_whole(summary);
}

}  // namespace

void add_ask(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<AskOptions>();
  CLI::App* command = app.add_subcommand(
      "ask", "Append text to a session and/or have it answered; makes or resumes the session");
  command->fallthrough();
  command->footer(
      "With --append alone the text is stored and read, not answered. With neither --append nor "
      "--prompt what is there is answered; where that has been, a session without chat template "
      "goes on.\n"
      "Example: ringtide ask --session notes --append book.txt --prompt 'Who opens the door?'\n\n" +
      command->get_footer());
  add_setting(command, "--session", options->session.name, "Name of the session")
      ->required()
      ->option_text("NAME");
  add_setting(command, "--append", options->append,
              "Text to append, as it is; '-' reads standard input; may be given several times")
      ->option_text("FILE|-")
      ->allow_extra_args(false);
  add_setting(command, "--prompt", options->prompt, "Text to append last, and then to be answered")
      ->option_text("TEXT");
  add_switch(command, "--generate", options->generate, "Answer also where only --append is given");
  options->offset_flag =
      add_unsigned(
          command, "--offset", options->offset,
          "Bytes the session must hold before this text (appended_bytes): a repeated append is "
          "refused rather than doubled")
          ->option_text("N");
  add_switch(command, "--no-wait", options->no_wait,
             "With --append alone: return when the text is stored, before it has run");
  add_connect_option(command, options->target.connect);
  add_store_option(command, options->target.server);
  add_switch(command, "--json", options->json, "Print one JSON object a line");
  add_switch(command, "--quiet", options->quiet, "No summary at the end");
  add_switch(command, "--progress", options->progress,
             "Progress bars also where stderr is no terminal");
  add_session_options(command, options->session);
  add_sampling_options(command, options->params);
  add_engine_options(command, options->target.server);
  command->callback([options, &chosen] { chosen = {[options] { ask(*options); }, options->json}; });
}

}  // namespace ringtide::deploy

// ringtide chat: a conversation at the terminal.
#include <editline/readline.h>
#include <fmt/core.h>
#include <langinfo.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <optional>

#include "deploy/commands.h"
#include "deploy/conversation.h"
#include "deploy/describe.h"
#include "deploy/failure.h"
#include "deploy/format.h"
#include "deploy/output.h"
#include "deploy/summary.h"

namespace ringtide::deploy {

namespace {

struct ChatOptions {
  TargetOptions target;
  SessionOptions session;
  protocol::GenerateParams params;
};

constexpr const char* kHelp =
    "/info   what the session holds\n"
    "/help   this\n"
    "/quit   end (as Ctrl-D does); the session is kept\n"
    "Ctrl-C stops an answer. Everything else is said to the model.\n";

// The library of the prompt reads characters of the locale, and drops those that it does not have.
void read_utf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

// A line typed at the terminal, with editing and history, or read from a pipe.
std::optional<std::string> read_line(bool terminal) {
  if (!terminal) {
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
  char* typed = readline("> ");
  if (typed == nullptr) return std::nullopt;
  std::string line = typed;
  if (!line.empty()) add_history(typed);
  std::free(typed);
  return line;
}

void say(const ChatOptions& options, Conversation& c, std::string line, Progress& progress) {
  c.session->append([&] { return std::exchange(line, ""); }, std::nullopt, [](uint64_t) {});
  wait_ingested(*c.session, progress);
  protocol::GenerateResult result;
  try {
    result = answer(*c.session, options.params, progress,
                    [](const protocol::TextChunk& chunk) { return try_print(chunk.text); });
  } catch (...) {
    try_print("\n");  // what is said of it is on a line of its own
    throw;
  }
  print("\n");
  if (result.reason == protocol::FinishReason::Cancelled) print("(stopped)\n");
  if (result.reason == protocol::FinishReason::MaxTokens) {
    print(fmt::format("(stopped after --max-tokens {})\n", options.params.max_tokens));
  }
}

// A command, or something to be said.
void obey(const ChatOptions& options, Conversation& c, const std::string& line,
          Progress& progress) {
  if (line[0] != '/') return say(options, c, line, progress);
  if (line == "/help") return print(kHelp);
  if (line != "/info")
    return print(fmt::format("no command {}; /help tells those there are\n", line));
  Summary summary;
  summary.session = c.session->info();
  summary.resume = c.resume;
  print(show(summary));
}

void chat(const ChatOptions& options) {
  require_valid(options.params);
  const bool terminal = isatty(STDIN_FILENO) == 1;
  if (terminal) read_utf8();
  // The library restores the terminal before Ctrl-C at the prompt ends the process.
  rl_catch_signals = 1;
  Progress progress(wants_progress(false));
  Conversation c = open_conversation("chat", options.target, options.session, progress);
  if (terminal) {
    fmt::print(stderr, "Session '{}', {} tokens so far. /help tells the commands.\n", c.opened.name,
               show_count(c.opened.tokens));
  }
  while (std::optional<std::string> line = read_line(terminal)) {
    if (line->empty()) continue;
    if (*line == "/quit") break;
    converse(c, [&] { obey(options, c, *line, progress); });
  }
  if (terminal) fmt::print(stderr, "\nGo on with: {}\n", c.resume);
}

}  // namespace

void add_chat(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<ChatOptions>();
  options->session.name = "chat";
  options->params.max_tokens = 1024;
  CLI::App* command = app.add_subcommand("chat", "Talk to a session at the terminal");
  command->fallthrough();
  add_setting(command, "--session", options->session.name,
              "Name of the session, made or resumed (default 'chat')")
      ->option_text("NAME");
  add_connect_option(command, options->target.connect);
  add_store_option(command, options->target.server);
  add_session_options(command, options->session);
  add_sampling_options(command, options->params);
  add_engine_options(command, options->target.server);
  command->callback([options, &chosen] { chosen = {[options] { chat(*options); }}; });
}

}  // namespace ringtide::deploy

// ringtide: one program, its commands in files of their own.
#include <fmt/core.h>
#include <malloc.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "deploy/commands.h"
#include "deploy/failure.h"
#include "deploy/help.h"
#include "deploy/interrupt.h"
#include "deploy/options.h"
#include "deploy/usage_error.h"

namespace {

constexpr const char* kAbout =
    "Streaming sessions with a language model, whose context never ends.\n"
    "\n"
    "Every flag --some-name can also be set as RINGTIDE_SOME_NAME in the environment, or in a file "
    "given with --config (flags of a command under its name: [serve]). A flag wins over the file, "
    "the file over the environment.\n";

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no connection, or cannot listen, 4 no such "
    "session, 5 store, 6 model, 7 refused by the server, 130 interrupted, 141 nobody reads the "
    "output.";

// glibc raises the size from which blocks are mapped on their own with what is freed, up to 32 MiB;
// the database's buffers would then leave holes in the arenas of its many threads.
void bound_malloc() {
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 16 << 20);
  mallopt(M_ARENA_MAX, 4);
}

// Why the file that the environment names cannot be read; the library lets it be absent.
std::string unreadable_config() {
  const char* file = std::getenv("RINGTIDE_CONFIG");
  if (file == nullptr || *file == 0 || access(file, R_OK) == 0) return "";
  return fmt::format("RINGTIDE_CONFIG: cannot read {}: {}", file, std::strerror(errno));
}

}  // namespace

int main(int argc, char** argv) {
  using namespace ringtide::deploy;
  bound_malloc();
  block_signals();

  CLI::App app(kAbout, "ringtide");
  app.formatter(std::make_shared<HelpFormatter>());
  app.footer(kExitCodes);
  app.set_version_flag("--version", "ringtide " RINGTIDE_VERSION);
  app.set_config("--config", "", "Configuration file (INI or TOML)")
      ->envname("RINGTIDE_CONFIG")
      ->option_text("FILE");
  app.allow_config_extras(CLI::config_extras_mode::error);
  std::string log_level = "warn";
  add_setting(&app, "--log-level", log_level,
              "What is told on stderr: trace, debug, info, warn (default), error, off")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->option_text("LEVEL");
  app.require_subcommand(1);

  Command chosen;
  add_serve(app, chosen);
  add_join(app, chosen);
  add_ask(app, chosen);
  add_chat(app, chosen);
  add_sessions(app, chosen);
  add_tokenize(app, chosen);
  add_doctor(app, chosen);
  add_bench(app, chosen);
  read_own_environment(app);

  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto refuse = [&](const std::string& why) {
    const int code = report(Exit::Usage, why, asked_for_json(app, arguments));
    fmt::print(stderr, "ringtide: {}\n", where_to_look(app));
    return code;
  };
  if (const std::string why = unreadable_config(); !why.empty()) return refuse(why);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return refuse(explain(e, app, arguments));
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("ringtide"));
  spdlog::set_level(spdlog::level::from_str(log_level));
  return run_reporting(chosen.work, chosen.json);
}

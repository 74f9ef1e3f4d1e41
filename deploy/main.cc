// ringtide: one program, its commands in files of their own.
#include <fmt/core.h>
#include <malloc.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <string_view>

#include "deploy/commands.h"
#include "deploy/failure.h"
#include "deploy/interrupt.h"
#include "deploy/options.h"

namespace {

constexpr const char* kAbout =
    "Streaming sessions with a language model, whose context never ends.\n"
    "\n"
    "Every flag --some-name can also be set as RINGTIDE_SOME_NAME in the environment, or in a file "
    "given\n"
    "with --config (flags of a command under its name: [serve]). A flag wins over the file, the "
    "file\n"
    "over the environment.";

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 cannot connect or listen, 4 no such session,\n"
    "5 store, 6 model, 7 refused by the server, 130 interrupted, 141 nobody reads the output.";

// glibc raises the size from which blocks are mapped on their own with what is freed, up to 32 MiB;
// the database's buffers would then leave holes in the arenas of its many threads.
void bound_malloc() {
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 16 << 20);
  mallopt(M_ARENA_MAX, 4);
}

// A configuration's settings are named "command.setting".
std::string explain_setting(const std::string& setting, const std::string& file) {
  const size_t dot = setting.rfind('.');
  if (dot == std::string::npos) {
    return fmt::format("{}: there is no setting \"{}\" before the first [COMMAND]", file, setting);
  }
  // The library's mark for the beginning of a section.
  if (setting.substr(dot + 1) == "++") {
    return fmt::format("{}: there is no command [{}]", file, setting.substr(0, dot));
  }
  return fmt::format("{}: [{}] has no setting \"{}\"", file, setting.substr(0, dot),
                     setting.substr(dot + 1));
}

std::string explain(const CLI::ParseError& error, CLI::App& app) {
  const std::string what = error.what();
  const std::string file = app.get_config_ptr()->as<std::string>();
  const std::string extra = CLI::ConfigError::Extras("").what();
  if (dynamic_cast<const CLI::ConfigError*>(&error) != nullptr) {
    if (what.starts_with(extra)) return explain_setting(what.substr(extra.size()), file);
    return fmt::format("{}: {}", file, what);
  }
  const auto unknown = app.remaining(true);
  if (!unknown.empty()) return "unknown command or flag: " + unknown.front();
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    return what.substr(0, what.find(':')) + ": give it once, with one value";
  }
  const bool in_file = dynamic_cast<const CLI::FileError*>(&error) != nullptr;
  if (!file.empty() && !in_file)
    return fmt::format("{} (flags, environment and {} are read)", what, file);
  return what;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace ringtide::deploy;
  bound_malloc();
  block_signals();

  CLI::App app(kAbout, "ringtide");
  app.footer(kExitCodes);
  app.set_version_flag("--version", "ringtide " RINGTIDE_VERSION);
  app.set_config("--config", "", "Configuration file (INI or TOML)")
      ->envname("RINGTIDE_CONFIG")
      ->option_text("FILE");
  app.allow_config_extras(CLI::config_extras_mode::error);
  std::string log_level = "warn";
  add_setting(&app, "--log-level", log_level,
              "What is told on stderr besides errors (default warn)")
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
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    const bool json = std::find(argv, argv + argc, std::string_view("--json")) != argv + argc;
    const int code = report(Exit::Usage, explain(e, app), json);
    fmt::print(stderr,
               "ringtide: 'ringtide --help' and 'ringtide COMMAND --help' tell what there is\n");
    return code;
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("ringtide"));
  spdlog::set_level(spdlog::level::from_str(log_level));
  return run_reporting(chosen.work, chosen.json);
}

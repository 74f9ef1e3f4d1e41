#include "deploy/usage_error.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>

#include "deploy/options.h"

namespace ringtide::deploy {

namespace {

const CLI::App& deepest(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : deepest(*chosen.back());
}

bool holds(const std::vector<std::string>& arguments, const std::string& flag) {
  return std::any_of(arguments.begin(), arguments.end(),
                     [&](const std::string& a) { return a == flag || a.starts_with(flag + "="); });
}

std::string missing_command(const CLI::App& app) {
  std::string names;
  for (const CLI::App* each : app.get_subcommands([](const CLI::App*) { return true; }))
    names += (names.empty() ? "" : ", ") + each->get_name();
  return fmt::format("which command? '{}' is followed by one of: {}", app.get_name(), names);
}

// A configuration's settings are named "command.setting".
std::string unknown_setting(const std::string& setting, const std::string& file) {
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

// The library begins what it says with the flag, or ends it with "flag = value".
struct Complaint {
  std::string flag, what;
};

Complaint split(const std::string& text) {
  const size_t flag = text.find("--");
  if (flag == std::string::npos) return {"", text};
  const std::string name = text.substr(flag, text.find_first_of(": =", flag) - flag);
  if (flag == 0) return {name, text.substr(std::min(text.size(), name.size() + 2))};
  const size_t equals = text.find(" = ", flag);
  if (equals == std::string::npos) return {name, text};
  return {name, fmt::format("'{}' is no value that it takes", text.substr(equals + 3))};
}

// Who gave a value that is wrong: the flag itself, the environment, or the file.
std::string given_by(const Complaint& complaint, const std::vector<std::string>& arguments,
                     const std::string& file) {
  if (holds(arguments, complaint.flag)) return complaint.flag;
  const std::string variable = environment_name(complaint.flag);
  const char* value = std::getenv(variable.c_str());
  if (value != nullptr && *value != 0 && complaint.what.find(value) != std::string::npos) {
    return variable;
  }
  const std::string setting = complaint.flag.substr(2);
  return file.empty() ? complaint.flag : fmt::format("{}: {}", file, setting);
}

}  // namespace

std::string explain(const CLI::ParseError& error, const CLI::App& app,
                    const std::vector<std::string>& arguments) {
  const std::string what = error.what();
  const std::string file = app.get_config_ptr()->as<std::string>();
  const std::string extra = CLI::ConfigError::Extras("").what();
  if (dynamic_cast<const CLI::ConfigError*>(&error) != nullptr) {
    if (what.starts_with(extra)) return unknown_setting(what.substr(extra.size()), file);
    return fmt::format("{}: {}", file, what);
  }
  const auto unknown = app.remaining(true);
  if (!unknown.empty()) return "unknown command or flag: " + unknown.front();
  const CLI::App& command = deepest(app);
  if (what == CLI::RequiredError::Subcommand(1).what()) return missing_command(command);
  const Complaint complaint = split(what);
  if (complaint.flag.empty() || dynamic_cast<const CLI::RequiredError*>(&error) != nullptr ||
      dynamic_cast<const CLI::ExcludesError*>(&error) != nullptr)
    return what;
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    const bool missing = complaint.what.find("missing") != std::string::npos;
    return complaint.flag + (missing ? ": its value is missing" : ": give it once, with one value");
  }
  return fmt::format("{}: {}", given_by(complaint, arguments, file), complaint.what);
}

std::string where_to_look(const CLI::App& app) {
  std::string command = app.get_name();
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().back();
    command += " " + at->get_name();
  }
  return fmt::format("'{} --help' tells what there is", command);
}

bool asked_for_json(const CLI::App& app, const std::vector<std::string>& arguments) {
  if (holds(arguments, "--json")) return true;
  const CLI::Option* json = deepest(app).get_option_no_throw("--json");
  try {
    return json != nullptr && json->count() > 0 && json->as<bool>();
  } catch (const CLI::ParseError&) {
    return false;
  }
}

}  // namespace ringtide::deploy

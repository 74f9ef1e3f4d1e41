// The commands. Each add_ function gives the application a command with its flags; parsing a
// command line that names it puts its work into `chosen`.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace ringtide::deploy {

struct Command {
  std::function<void()> work;
  bool json = false;  // what fails is to be told as an object too
};

void add_serve(CLI::App& app, Command& chosen);
void add_join(CLI::App& app, Command& chosen);
void add_ask(CLI::App& app, Command& chosen);
void add_chat(CLI::App& app, Command& chosen);
void add_sessions(CLI::App& app, Command& chosen);
void add_tokenize(CLI::App& app, Command& chosen);
void add_doctor(CLI::App& app, Command& chosen);
void add_bench(CLI::App& app, Command& chosen);

}  // namespace ringtide::deploy

// How a command fails: a message for a person, and an exit code for a script.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

#include "protocol/client.h"

namespace ringtide::deploy {

// Documented in README.md; scripts rely on the numbers.
enum class Exit : int {
  Ok = 0,
  Failed = 1,         // anything without a number of its own
  Usage = 2,          // flags, values, input files
  Unreachable = 3,    // an address: cannot connect or listen, or the connection is lost
  NotFound = 4,       // no such session
  Store = 5,          // the store cannot be used: locked, full, damaged, newer
  Model = 6,          // the model file is missing, unsound or unsupported
  Refused = 7,        // the server says no: busy, a limit, an offset, another model's session
  Interrupted = 130,  // Ctrl-C
  ClosedPipe = 141    // who read standard output is gone; nothing is said
};

struct Failure : std::runtime_error {
  Failure(Exit code, const std::string& message) : std::runtime_error(message), code(code) {}
  Exit code;
};

Exit exit_of(const protocol::Outcome& outcome);

// Says on stderr what failed, where `json` also as the last object on stdout; returns the code.
int report(Exit code, std::string message, bool json);

// Runs a command; what it throws is reported.
int run_reporting(const std::function<void()>& command, bool json);

}  // namespace ringtide::deploy

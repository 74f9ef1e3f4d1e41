// A client, and the server behind it where that is in this process.
#pragma once

#include <memory>
#include <string>

#include "deploy/local_server.h"
#include "deploy/options.h"
#include "deploy/progress.h"
#include "protocol/client.h"

namespace ringtide::deploy {

struct Connection {
  std::unique_ptr<LocalServer> server;  // null: the server is elsewhere
  std::unique_ptr<protocol::Client> client;
  std::string flags;  // that reach the same sessions again: "--connect ADDR" or "--store DIR"
};

// Throws Failure that names the address, or what kept the server from starting.
Connection connect(const TargetOptions& target, Progress& progress);

}  // namespace ringtide::deploy

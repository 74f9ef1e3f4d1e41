// ringtide serve: the daemon.
#include <fmt/core.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "deploy/commands.h"
#include "deploy/describe.h"
#include "deploy/failure.h"
#include "deploy/format.h"
#include "deploy/interrupt.h"
#include "deploy/local_server.h"
#include "deploy/output.h"
#include "protocol/address.h"

namespace ringtide::deploy {

namespace {

struct ServeOptions {
  ServerOptions server;
  protocol::Policy policy;
  std::string listen = "127.0.0.1:7717";
  std::string address_file;
  bool json = false;
};

// Appears whole or not at all, so that a script can wait for it.
void write_address_file(const std::string& path, const std::string& address) {
  const std::string temporary = path + ".tmp";
  std::FILE* file = std::fopen(temporary.c_str(), "w");
  const bool written = file != nullptr && std::fputs((address + "\n").c_str(), file) >= 0;
  const bool closed = file != nullptr && std::fclose(file) == 0;
  if (!written || !closed || std::rename(temporary.c_str(), path.c_str()) != 0) {
    throw Failure(Exit::Failed, fmt::format("cannot write --address-file {}", path));
  }
}

std::string show_shards(const ServerFacts& f) {
  if (f.shards == 1 && f.shard_address.empty()) return "none";
  if (f.shard_address.empty()) return fmt::format("{}, of this process", f.shards);
  return fmt::format("{} in the ring; more can join at {}", f.shards, f.shard_address);
}

std::string show(const ServerFacts& f) {
  const std::string kind =
      fmt::format("{} ({}, {} layers, {}, trained window {} tokens)", f.model, f.architecture,
                  f.layers, f.quantisation, show_count(f.trained_context));
  return show_table(
      {{"model", kind},
       {"weights", show_bytes(f.weight_bytes)},
       {"device", f.gpu.empty() ? fmt::format("processor, {} threads{}", f.threads,
                                              f.gpu_note.empty() ? "" : " (" + f.gpu_note + ")")
                                : f.gpu},
       {"budget", fmt::format("GPU {}, RAM {}, store {} free", show_bytes(f.gpu_budget),
                              show_bytes(f.ram_budget), show_bytes(f.store_free_bytes))},
       {"store", f.store},
       {"shards", show_shards(f)},
       {"listening", f.address}});
}

void serve(const ServeOptions& options) {
  // Before the model is loaded, which takes its time.
  if (const std::string why = protocol::cannot_listen(options.listen); !why.empty()) {
    throw Failure(Exit::Unreachable,
                  fmt::format("{}; --listen names another (port 0: any that is free)", why));
  }
  LocalServer server(options.server, options.policy);
  server.listen(options.listen);
  const ServerFacts& facts = server.facts();
  if (options.json) {
    Json ready = {{"event", "ready"}};
    ready.update(to_json(facts));
    print_line(ready);
  } else {
    print(show(facts));
  }
  if (!options.address_file.empty()) write_address_file(options.address_file, facts.address);
  const int number = wait_for_stop_signal();
  if (!options.address_file.empty()) std::remove(options.address_file.c_str());
  // Ends with the pass under way, which may take seconds.
  if (options.json) {
    print_line({{"event", "stopping"}, {"signal", number}});
  } else {
    print(fmt::format("stopping   signal {}; what was acknowledged is stored\n", number));
  }
}

}  // namespace

void add_serve(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* command = app.add_subcommand(
      "serve", "Run the daemon: load a model, open a store, listen for clients until stopped");
  command->fallthrough();
  add_setting(command, "--listen", options->listen,
              "host:port (port 0: any free one) or unix:/path (default 127.0.0.1:7717)")
      ->option_text("ADDR");
  add_store_option(command, options->server);
  add_setting(command, "--address-file", options->address_file,
              "Write the address with the real port here once clients can connect")
      ->option_text("FILE");
  add_switch(command, "--accept-loss", options->server.accept_loss,
             "Open a store whose session log is damaged, without the text after the damage");
  add_switch(command, "--json", options->json, "Tell what happens as one JSON object a line");
  add_engine_options(command, options->server);
  add_shards_option(command, options->server.cluster);
  add_cluster_options(command, options->server.cluster);
  add_setting(command, "--shard-timeout", options->server.cluster.shard_timeout,
              "Longest that shards wait for one in an exchange; then the ring goes on without it "
              "(default 30)")
      ->check(CLI::Range(1, 3600))
      ->option_text("SECONDS")
      ->group("Shards");
  add_policy_options(command, options->policy);
  protocol::ServerLimits& limits = options->server.limits;
  const char* group = "Limits";
  add_setting(command, "--max-sessions", options->server.max_sessions,
              "Sessions open at once (default 256)")
      ->check(CLI::Range(1, 1 << 20))
      ->option_text("N")
      ->group(group);
  add_setting(command, "--max-connections", limits.max_connections,
              "Clients connected at once (default 256)")
      ->check(CLI::Range(1, 1 << 20))
      ->option_text("N")
      ->group(group);
  add_bytes(command, "--max-message", limits.max_message_bytes,
            "Longest message; a longer one ends its connection (default 4M)")
      ->group(group);
  add_bytes(command, "--max-queued", options->server.max_queued_bytes,
            "Appended text a session holds before it pushes back (default 8M)")
      ->group(group);
  add_bytes(command, "--max-unread", limits.max_queued_bytes,
            "Generated text waiting for a slow reader before its session pauses (default 1M)")
      ->group(group);
  add_setting(command, "--handshake-seconds", limits.idle_handshake_seconds,
              "Close a connection that says nothing that long (default 30)")
      ->check(CLI::Range(1, 86400))
      ->option_text("N")
      ->group(group);
  command->callback([options, &chosen] {
    chosen = {[options] { serve(*options); }, options->json};
  });
}

}  // namespace ringtide::deploy

// ringtide join: one shard of a ring that another process leads.
#include <fmt/core.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>

#include "actors/cluster/joiner.h"
#include "deploy/commands.h"
#include "deploy/describe.h"
#include "deploy/engine_options.h"
#include "deploy/failure.h"
#include "deploy/format.h"
#include "deploy/interrupt.h"
#include "deploy/model_cache.h"
#include "deploy/output.h"
#include "deploy/shards.h"
#include "deploy/store_access.h"
#include "model/model.h"
#include "model/shard_model.h"

namespace ringtide::deploy {

namespace {

using actors::cluster::Address;

struct JoinOptions {
  std::string leader, name;
  ServerOptions server;
  bool json = false;
};

std::string default_name() {
  char host[256] = "?";
  gethostname(host, sizeof host - 1);
  return fmt::format("{}:{}", host, getpid());
}

Address leader_address(const JoinOptions& options) {
  Address leader;
  try {
    leader = actors::cluster::parse_address(options.leader);
  } catch (const std::invalid_argument& error) {
    throw Failure(Exit::Usage, error.what());
  }
  if (leader.port == 0) {
    throw Failure(Exit::Usage, fmt::format("'{}' lacks the leader's port: 'ringtide serve' tells "
                                           "it where shards can join",
                                           options.leader));
  }
  require_safe(leader, options.server.cluster);
  return leader;
}

// Ends the process where the leader refuses it; the wait for a signal is another thread's.
class RefusalWatch {
 public:
  RefusalWatch(const actors::cluster::Joiner& joiner, bool json)
      : thread_([&joiner, json, this] {
          while (!over_) {
            const auto why = joiner.refused(std::chrono::milliseconds(200));
            if (!why) continue;
            report(Exit::Refused, "the leader refuses this shard: " + *why, json);
            _exit(static_cast<int>(Exit::Refused));
          }
        }) {}
  ~RefusalWatch() {
    over_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> over_{false};
  std::thread thread_;
};

void join(const JoinOptions& options) {
  const ServerOptions& server = options.server;
  const Address leader = leader_address(options);
  const Address listen = shard_address(server.cluster);
  require_processor(server.device);
  const Machine machine = inspect_machine();
  const auto model = model::load_shard_model(find_model(server.model));
  storage::StoreOptions how;
  how.fingerprint = model->fingerprint + "-" + server.kv_type;
  const auto [engine, memory] = engine_over_store(server, machine);
  how.memory_bytes = static_cast<size_t>(memory.store);
  const ShardWeights weights = pack_weights(model, engine);
  const auto store = open_store(server.store, how);

  actors::cluster::JoinerOptions shard;
  shard.leader = leader;
  shard.listen = listen;
  shard.security = server.cluster.security;
  shard.terms = shard_terms(model->fingerprint, server, machine);
  shard.name = options.name.empty() ? default_name() : options.name;
  weights.get();  // a ring would wait for them
  shard.make_engine = shard_engine(model, engine, weights);
  shard.unwritten_bytes = memory.unwritten;
  shard.store = store.get();
  std::unique_ptr<actors::cluster::Joiner> joiner;
  try {
    joiner = std::make_unique<actors::cluster::Joiner>(shard);
  } catch (const actors::cluster::NetError& error) {
    throw Failure(Exit::Unreachable,
                  fmt::format("{}; choose another address with --shard-listen", error.what()));
  }
  const std::string address = actors::cluster::to_string({listen.host, joiner->port()});
  if (options.json) {
    print_line({{"event", "ready"},
                {"name", shard.name},
                {"leader", options.leader},
                {"address", address},
                {"store", server.store}});
  } else {
    print(show_table({{"shard", shard.name},
                      {"leader", options.leader},
                      {"reached at", address},
                      {"store", server.store}}));
  }
  int number = 0;
  {
    const RefusalWatch watch(*joiner, options.json);
    number = wait_for_stop_signal();
  }
  spdlog::info("signal {}: stopping", number);
  if (options.json) print_line({{"event", "stopping"}, {"signal", number}});
}

}  // namespace

void add_join(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<JoinOptions>();
  CLI::App* command = app.add_subcommand(
      "join",
      "Be a shard of the ring that a 'ringtide serve' leads: hold a part of each session's "
      "keys and values, until stopped");
  command->fallthrough();
  command
      ->add_option("ADDR", options->leader,
                   "Where shards join it: what 'serve' tells, or its --shard-listen")
      ->required();
  add_setting(command, "--name", options->name,
              "What logs call this shard (default: host and process)")
      ->option_text("NAME");
  options->server.store = default_store_path() + "-shard";
  add_setting(command, "--store", options->server.store,
              "Folder of the database for this shard's units; not that of 'serve' (default: " +
                  options->server.store + ")")
      ->option_text("DIR");
  add_switch(command, "--json", options->json, "Tell what happens as one JSON object a line");
  add_engine_options(command, options->server);
  add_cluster_options(command, options->server.cluster);
  command->footer(
      "Model, types and version must be the leader's. A shard that loses the leader joins again; "
      "one that the leader refuses ends with exit code 7.\n\n" +
      command->get_footer());
  command->callback([options, &chosen] {
    chosen = {[options] { join(*options); }, options->json};
  });
}

}  // namespace ringtide::deploy

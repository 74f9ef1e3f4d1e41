// Flags that several commands share. Each flag --some-name can also be set by the environment
// variable RINGTIDE_SOME_NAME or in the configuration file; a flag wins over the file, the file
// over the environment.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "actors/cluster/address.h"
#include "protocol/server.h"
#include "protocol/service.h"

namespace ringtide::deploy {

// Shards of a ring: `serve` has them join it, `join` is one.
struct ClusterOptions {
  int shards = 1;            // of `serve`, which starts all but the first
  std::string shard_listen;  // where they join, or where the others reach this one; empty: loopback
  int shard_timeout = 30;    // seconds of an exchange
  int unit_copies = 2;       // shards that keep a unit
  actors::cluster::Security security;
};

// What a server in this process is made of: `serve`, and the commands that embed one.
struct ServerOptions {
  std::string model;  // empty: the default one
  std::string store;
  int threads = 0;         // 0: one a usable core
  int64_t ram_budget = 0;  // 0: half of the machine's memory
  std::string kv_type = "f16";
  std::string activations = "int16";
  std::string device = "auto";  // device_name.h
  int64_t gpu_memory = 0;       // 0: 90 % of what is free
  bool accept_loss = false;     // open a store whose log is damaged as far as it can be read
  protocol::ServerLimits limits;
  int max_sessions = 256;
  ClusterOptions cluster;
  int64_t max_queued_bytes = 8 << 20;  // appended text a session holds before it pushes back
};

// Where a command finds its sessions.
struct TargetOptions {
  std::string connect;  // empty: a server in this process, over `server.store`
  ServerOptions server;
};

// A session to open, and how it is made where it is new.
struct SessionOptions {
  std::string name;
  protocol::Policy policy;
  std::string template_family = "auto";
  std::string system;
  const CLI::Option* system_flag = nullptr;  // given at all: an empty prompt is a choice too
  bool only_new = false, only_existing = false;
};

std::string environment_name(const std::string& flag);  // "--max-tokens" -> "RINGTIDE_MAX_TOKENS"

// Of the commands of `app` only the chosen one reads its environment variables: another's may mean
// something else.
void read_own_environment(CLI::App& app);

template <class T>
CLI::Option* add_setting(CLI::App* app, const std::string& flag, T& value,
                         const std::string& help) {
  return app->add_option(flag, value, help)->envname(environment_name(flag));
}

CLI::Option* add_switch(CLI::App* app, const std::string& flag, bool& value,
                        const std::string& help);
// Refuses what does not fit.
CLI::Option* add_unsigned(CLI::App* app, const std::string& flag, uint64_t& value,
                          const std::string& help);
// Above 0; accepts K, M, G, T (powers of 1024), and B or iB after them.
CLI::Option* add_bytes(CLI::App* app, const std::string& flag, int64_t& value,
                       const std::string& help);

void add_engine_options(CLI::App* app, ServerOptions& options);    // model, threads, ram budget, KV
void add_device_options(CLI::App* app, ServerOptions& options);    // device, its memory
void add_shards_option(CLI::App* app, ClusterOptions& options);    // how many `serve` has
void add_cluster_options(CLI::App* app, ClusterOptions& options);  // certificates, address
void add_store_option(CLI::App* app, ServerOptions& options);
void add_connect_option(CLI::App* app, std::string& connect);
void add_policy_options(CLI::App* app, protocol::Policy& policy);
void add_session_options(CLI::App* app, SessionOptions& options);
void add_sampling_options(CLI::App* app, protocol::GenerateParams& params);

protocol::OpenRequest open_request(const SessionOptions& options);

// What was asked of a session that is there already and keeps what it was made with, for a person;
// empty where nothing differs.
std::string not_applied(const SessionOptions& options, const protocol::SessionInfo& found);

}  // namespace ringtide::deploy

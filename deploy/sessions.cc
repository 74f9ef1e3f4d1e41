// ringtide sessions: what a server or a store holds.
#include <fmt/core.h>

#include <memory>

#include "actors/summary.h"
#include "deploy/commands.h"
#include "deploy/connection.h"
#include "deploy/describe.h"
#include "deploy/failure.h"
#include "deploy/format.h"
#include "deploy/interrupt.h"
#include "deploy/output.h"
#include "deploy/store_access.h"

namespace ringtide::deploy {

namespace {

struct SessionsOptions {
  TargetOptions target;
  std::string name;
  bool json = false;
};

std::unique_ptr<protocol::Client> connect_to(const TargetOptions& target) {
  exit_on_interrupt("\n");
  Progress none(false);
  return std::move(connect(target, none).client);
}

std::unique_ptr<storage::Store> open_existing(const SessionsOptions& options, bool read_only) {
  storage::StoreOptions how;
  how.create = false;
  how.read_only = read_only;
  return open_store(options.target.server.store, how);
}

// All sessions, or the one of that name.
std::vector<protocol::SessionInfo> stored(const SessionsOptions& options) {
  auto store = open_existing(options, true);
  auto found = actors::summarise(*store, options.name, 0, {});
  require_ok(found.status());
  return std::move(found.value());
}

std::vector<protocol::SessionInfo> list(const SessionsOptions& options) {
  if (!options.target.connect.empty()) return connect_to(options.target)->list();
  return stored(options);
}

std::string check_named(const std::string& name) {
  return name.empty() ? "a session's name is not empty" : "";
}

void ls(const SessionsOptions& options) {
  std::vector<std::vector<std::string>> rows = {
      {"NAME", "ID", "STATE", "POLICY", "TOKENS", "TEXT", "UNITS", "RAM", "STORE", "CREATED"}};
  for (const auto& s : list(options)) {
    if (options.json) {
      print_line(to_json(s));
      continue;
    }
    rows.push_back({s.name, fmt::format("{}", s.id), s.state, s.policy, show_count(s.tokens),
                    show_bytes(static_cast<int64_t>(s.appended_bytes)), show_count(s.units),
                    show_bytes(s.bytes_ram), show_bytes(s.bytes_store), show_time(s.created_ms)});
  }
  if (!options.json) print(show_table(rows));
}

void show(const SessionsOptions& options) {
  protocol::SessionInfo s;
  if (!options.target.connect.empty()) {
    s = connect_to(options.target)->info(options.name, 0);
  } else {
    s = stored(options).front();
  }
  if (options.json) return print_line(to_json(s));
  std::vector<std::vector<std::string>> rows = {
      {"name", s.name},
      {"id", fmt::format("{}", s.id)},
      {"created", show_time(s.created_ms)},
      {"state", s.state},
      {"policy", s.policy},
      {"template", s.template_family},
      {"tokens", show_count(s.tokens)},
      {"text",
       fmt::format("{} bytes appended", show_count(static_cast<int64_t>(s.appended_bytes)))},
      {"units", show_count(s.units)},
      {"bytes", fmt::format("GPU {}, RAM {}, RocksDB {}", show_bytes(s.bytes_gpu),
                            show_bytes(s.bytes_ram), show_bytes(s.bytes_store))}};
  if (s.state != "stored") {
    rows.push_back(
        {"retrieved", fmt::format("{} units: {} from RAM, {} from RocksDB, {} recomputed",
                                  show_count(s.units_selected), show_count(s.reads_ram),
                                  show_count(s.reads_store), show_count(s.units_recomputed))});
    rows.push_back({"came back", fmt::format("{} tokens run again", show_count(s.run_again))});
  }
  for (const protocol::ShardInfo& shard : s.shards) {
    rows.push_back({"held by " + shard.name,
                    shard.answers ? fmt::format("{} units, RAM {}, RocksDB {}",
                                                show_count(shard.units),
                                                show_bytes(shard.bytes_ram),
                                                show_bytes(shard.bytes_store))
                                  : "it does not answer"});
  }
  print(show_table(rows));
}

void rm(const SessionsOptions& options) {
  if (!options.target.connect.empty()) {
    connect_to(options.target)->remove(options.name, 0);
  } else {
    auto store = open_existing(options, false);
    auto entry = store->find(options.name);
    require_ok(entry.status());
    require_ok(store->remove(entry.value().id));
  }
  if (options.json) print_line({{"removed", options.name}});
}

}  // namespace

void add_sessions(CLI::App& app, Command& chosen) {
  CLI::App* group = app.add_subcommand("sessions", "List, show and remove sessions");
  group->fallthrough();
  group->require_subcommand(1);
  auto add = [&](const char* name, const char* help, bool named,
                 void (*work)(const SessionsOptions&)) {
    auto options = std::make_shared<SessionsOptions>();
    CLI::App* command = group->add_subcommand(name, help);
    command->fallthrough();
    if (named) {
      command->add_option("NAME", options->name, "Name of the session")
          ->required()
          ->check(CLI::Validator(check_named, ""));
    }
    add_connect_option(command, options->target.connect);
    add_store_option(command, options->target.server);
    add_switch(command, "--json", options->json, "Print one JSON object a line");
    command->callback([=, &chosen] { chosen = {[=] { work(*options); }, options->json}; });
  };
  add("ls", "All sessions, one a line", false, ls);
  add("show", "One session: tokens, bytes in each tier, what was retrieved", true, show);
  add("rm", "Remove a session: its text, its answers, its memory", true, rm);
}

}  // namespace ringtide::deploy

#include "deploy/shards.h"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "deploy/failure.h"
#include "kernels/threads.h"
#include "model/model.h"
#include "model/shard_engine.h"

namespace ringtide::deploy {

using actors::cluster::Address;

actors::cluster::Terms shard_terms(const std::string& fingerprint, const ServerOptions& options,
                                   const Machine& machine) {
  return {{"protocol", actors::cluster::kProtocol},
          {"version", RINGTIDE_VERSION},
          {"model", fingerprint},
          {"type of keys and values", options.kv_type},
          {"activations", options.activations},
          {"instruction set", fmt::format("{}", fmt::join(machine.simd, " "))}};
}

Address shard_address(const ClusterOptions& options) {
  Address address{"127.0.0.1", 0};
  try {
    if (!options.shard_listen.empty())
      address = actors::cluster::parse_address(options.shard_listen);
  } catch (const std::invalid_argument& error) {
    throw Failure(Exit::Usage, fmt::format("--shard-listen: {}", error.what()));
  }
  if (actors::cluster::is_any(address.host)) {
    throw Failure(Exit::Usage, fmt::format("--shard-listen {}: name the address that the other "
                                           "shards are to use",
                                           options.shard_listen));
  }
  require_safe(address, options);
  return address;
}

void require_safe(const Address& address, const ClusterOptions& options) {
  const std::string why = actors::cluster::exposure(address, options.security);
  if (why.empty()) return;
  throw Failure(Exit::Usage, why + " (--cluster-certificate, --cluster-key, --cluster-authority)");
}

void require_processor(const std::string& device) {
  if (device == "auto" || device == "cpu") return;
  throw Failure(Exit::Usage, fmt::format("--device {}: shards compute on processors", device));
}

ShardWeights pack_weights(const std::shared_ptr<const model::Model>& model,
                          const model::EngineOptions& options) {
  return std::async(std::launch::async,
                    [model, options] {
                      kernels::ThreadPool packers(options.threads);
                      return model::pack_weights(*model, options.activations, packers);
                    })
      .share();
}

actors::cluster::MakeShardEngine shard_engine(std::shared_ptr<const model::Model> model,
                                              const model::EngineOptions& options,
                                              ShardWeights weights) {
  return [model = std::move(model), options, weights = std::move(weights)](
             model::UnitStore& units, model::ShardTransport& transport) {
    return model::make_shard_engine(model, options, units, transport, weights.get());
  };
}

namespace {

// As --log-level takes it.
std::string level_name() {
  const spdlog::level::level_enum level = spdlog::get_level();
  if (level == spdlog::level::warn) return "warn";
  return std::string(spdlog::level::to_string_view(level).data());
}

std::vector<Child> children(const ServerOptions& options, const std::string& model_path,
                            const model::EngineOptions& engine, const std::string& leader,
                            const std::string& host) {
  std::vector<Child> all;
  for (int s = 1; s < options.cluster.shards; ++s) {
    const std::string name = fmt::format("shard {}", s);
    const auto store = std::filesystem::path(options.store) / "shards" / std::to_string(s);
    Child child{name, {"--log-level",    level_name(),
                       "join",           leader,
                       "--name",         name,
                       "--model",        model_path,
                       "--store",        store.string(),
                       "--shard-listen", host,
                       "--threads",      std::to_string(engine.threads),
                       "--ram-budget",   std::to_string(engine.ram_budget),
                       "--kv-type",      options.kv_type,
                       "--activations",  options.activations,
                       "--unit-copies",  std::to_string(engine.unit_copies),
                       "--device",       "cpu"}};
    const actors::cluster::Security& security = options.cluster.security;
    if (security.on()) {
      for (const auto& [flag, file] : {std::pair("--cluster-certificate", security.certificate),
                                       std::pair("--cluster-key", security.key),
                                       std::pair("--cluster-authority", security.authority)}) {
        child.arguments.push_back(flag);
        child.arguments.push_back(file);
      }
    }
    all.push_back(std::move(child));
  }
  return all;
}

}  // namespace

Shards::Shards(const ServerOptions& options, const std::string& model_path,
               const model::EngineOptions& engine, actors::cluster::Terms terms,
               actors::cluster::MakeShardEngine make, storage::Store& store)
    : store_(store), listen_(shard_address(options.cluster)) {
  actors::cluster::LeaderOptions leader;
  leader.listen = listen_;
  leader.security = options.cluster.security;
  leader.terms = std::move(terms);
  leader.make_engine = std::move(make);
  leader.shards = options.cluster.shards;
  leader.step_deadline = std::chrono::seconds(options.cluster.shard_timeout);
  leader.sessions = [&store] {
    std::vector<uint64_t> ids;
    const auto entries = store.list();
    if (!entries.ok()) throw std::runtime_error(entries.status().message());
    for (const auto& entry : entries.value()) ids.push_back(entry.id);
    return ids;
  };
  leader.lost = [this](const std::string& name) {
    const std::lock_guard lock(mutex_);
    if (children_) children_->kill(name);
  };
  try {
    leader_ = std::make_unique<actors::cluster::Leader>(std::move(leader));
  } catch (const actors::cluster::NetError& error) {
    throw Failure(Exit::Unreachable,
                  fmt::format("{}; choose another address with --shard-listen", error.what()));
  }
  const std::lock_guard lock(mutex_);
  children_ =
      std::make_unique<Children>(children(options, model_path, engine, address(), listen_.host),
                                 [this](const std::string& why) {
                                   spdlog::error("{}", why);
                                   if (!ready_) leader_->close(why);
                                 });
}

Shards::~Shards() {
  leader_->close("the server stops");
  std::unique_ptr<Children> children;
  {
    const std::lock_guard lock(mutex_);
    children = std::move(children_);
  }
  children.reset();
}

void Shards::ask(const protocol::SessionInfo& session,
                 std::function<void(std::vector<protocol::ShardInfo>)> done) const {
  protocol::ShardInfo own{"the leader", true, 0, session.bytes_ram, 0};
  if (const auto size = store_.size(session.id); size.ok()) {
    own.units = size.value().units;
    own.bytes_store = size.value().unit_bytes;
  }
  leader_->held(session.id, [own, done = std::move(done)](
                                const std::vector<actors::cluster::ShardHolding>& all) {
    std::vector<protocol::ShardInfo> shards = {own};
    for (const auto& [who, holding] : all) {
      const actors::cluster::Holding held = holding.value_or(actors::cluster::Holding{});
      shards.push_back(
          {who.name, holding.has_value(), held.units, held.ram_bytes, held.unit_bytes});
    }
    done(std::move(shards));
  });
}

std::string Shards::address() const {
  return actors::cluster::to_string({listen_.host, leader_->port()});
}

}  // namespace ringtide::deploy

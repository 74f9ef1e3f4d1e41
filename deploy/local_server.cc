#include "deploy/local_server.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "actors/open_request.h"
#include "actors/system.h"
#include "deploy/device.h"
#include "deploy/engine_options.h"
#include "deploy/failure.h"
#include "deploy/machine.h"
#include "deploy/model_cache.h"
#include "deploy/shards.h"
#include "deploy/store_access.h"
#include "kernels/threads.h"
#include "model/cpu_weights.h"
#include "model/engine.h"
#include "model/gpu_ring.h"
#include "model/model.h"
#include "model/unit_store.h"
#include "protocol/server.h"

namespace ringtide::deploy {

struct LocalServer::Impl {
  ServerFacts facts;
  protocol::ServerLimits limits;
  std::unique_ptr<Shards> shards;  // null: no ring
  // The server calls the system until it is destroyed: it goes first.
  std::unique_ptr<actors::System> system;
  std::unique_ptr<protocol::Server> server;
};

namespace {

// Of a ring's memory for sessions: what those under the policy of most have.
constexpr double kMostMemory = 0.875;

// Of one GPU, or of one for each shard of a ring. `mostly`: the policy of most sessions.
std::unique_ptr<model::Engine> gpu_engine(const Device& device,
                                          const std::shared_ptr<const model::Model>& model,
                                          model::EngineOptions options, model::PolicyKind mostly,
                                          model::UnitStore& units) {
  const auto shards = static_cast<int>(device.gpus.size());
  if (shards == 1) return model::make_gpu_engine(open_gpu(device.gpus[0]), model, options, units);
  options.gpu_memory = gpu_memory(device, options);
  return model::make_gpu_ring_engine(
      shards, [&](int shard) { return open_gpu(device.gpus[shard]); }, model, options,
      {.exact_share = mostly == model::PolicyKind::Exact ? kMostMemory : 1 - kMostMemory}, units);
}

std::shared_ptr<const model::Model> load_model(const ServerOptions& options, ServerFacts& facts) {
  facts.path = find_model(options.model);
  auto model = model::Model::load(facts.path);
  facts.model = model->config.name;
  facts.architecture = model->config.architecture;
  facts.fingerprint = model->fingerprint;
  facts.weight_bytes = model->tensors.bytes;
  facts.trained_context = model->config.trained_context;
  facts.layers = model->config.layers;
  facts.quantisation = kernels::type_info(model->tensors.layers[0].gate.type).name;
  return model;
}

}  // namespace

LocalServer::LocalServer(const ServerOptions& options, const protocol::Policy& default_policy)
    : impl_(std::make_unique<Impl>()) {
  ServerFacts& facts = impl_->facts;
  const Machine machine = inspect_machine();
  const auto [engine, memory] = engine_over_store(options, machine);
  facts.threads = engine.threads;
  facts.ram_budget = engine.ram_budget;
  facts.store = options.store;

  actors::SystemOptions system;
  system.model = load_model(options, facts);
  const bool joined = !options.cluster.shard_listen.empty();  // by processors, from anywhere
  if (joined) require_processor(options.device);
  Device device = find_device(joined ? "cpu" : options.device, options.cluster.shards);
  const model::PolicyConfig policy = actors::policy_of(default_policy, protocol::Policy{});
  require_serves(device, options.device, *system.model, policy, engine);
  facts.gpu = device.on_gpu() ? device.name() : "";
  facts.gpu_note = device.note;
  if (!device.info.name.empty() && !device.on_gpu()) {
    spdlog::warn("{} is not used: {}", device.info.name, device.note);
  }
  // Units of one layout are bytes of another: the fingerprint keeps them apart.
  storage::StoreOptions store;
  store.fingerprint = facts.fingerprint + "-" + (device.on_gpu() ? "bf16" : options.kv_type);
  store.accept_loss = options.accept_loss;
  store.memory_bytes = static_cast<size_t>(memory.store);
  system.store = open_store(options.store, store);
  facts.store_free_bytes = inspect_disk(options.store).free_bytes;
  if (device.on_gpu()) {
    system.make_engine = [model = system.model, device, &facts, engine = engine,
                          mostly = policy.kind](model::UnitStore& units) {
      auto made = gpu_engine(device, model, engine, mostly, units);
      model->forget_pages();
      facts.gpu_budget = made->stats().gpu_budget;
      return made;
    };
    system.refusal = [options = engine](const model::PolicyConfig& wanted) {
      return model::gpu_refusal(wanted, options);
    };
    facts.shards = static_cast<int>(device.gpus.size());
    constexpr int kBlock = 512;  // tokens of a session's blocks, if nothing else is said
    system.blocks = engine.pass_tokens / kBlock;
    system.rows = 64;
  } else if (joined || options.cluster.shards > 1) {
    // The shards' processes start meanwhile.
    const ShardWeights weights = pack_weights(system.model, engine);
    impl_->shards = std::make_unique<Shards>(
        options, facts.path, engine, shard_terms(facts.fingerprint, options, machine),
        shard_engine(system.model, engine, weights), *system.store);
    weights.get();
    facts.shard_address = impl_->shards->address();
    system.make_engine = [shards = impl_->shards.get()](model::UnitStore& units) {
      return shards->leader().make_engine(units);
    };
    system.shards = [shards = impl_->shards.get()](const protocol::SessionInfo& session,
                                                   auto done) {
      shards->ask(session, std::move(done));
    };
  } else {
    kernels::ThreadPool packers(facts.threads);
    auto weights = model::pack_weights(*system.model, engine.activations, packers);
    system.make_engine = [model = system.model, engine = engine,
                          weights = std::move(weights)](model::UnitStore& units) {
      return model::make_cpu_engine(model, engine, units, weights);
    };
  }
  system.version = RINGTIDE_VERSION;
  system.store_path = options.store;
  system.default_policy = default_policy;
  system.threads = facts.threads;
  system.max_sessions = options.max_sessions;
  system.max_queued_bytes = options.max_queued_bytes;
  system.unwritten_bytes = memory.unwritten;
  impl_->system = std::make_unique<actors::System>(std::move(system));
  impl_->limits = options.limits;
  if (impl_->shards) {
    impl_->shards->ready();
    facts.shards = static_cast<int>(impl_->shards->leader().shards().size()) + 1;
  }
}

void LocalServer::listen(const std::string& address) {
  try {
    impl_->server =
        std::make_unique<protocol::Server>(address, impl_->system->service(), impl_->limits);
  } catch (const std::exception& e) {
    throw Failure(Exit::Unreachable,
                  fmt::format("{}; --listen names another (port 0: any that is free)", e.what()));
  }
  impl_->facts.address = impl_->server->address();
}

LocalServer::~LocalServer() {
  impl_->server.reset();
  if (impl_->shards) impl_->shards->leader().close("the server stops");
  if (impl_->system) impl_->system->stop();
}

const ServerFacts& LocalServer::facts() const { return impl_->facts; }

}  // namespace ringtide::deploy

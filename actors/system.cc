#include "actors/system.h"

#include <caf/all.hpp>
#include <exception>
#include <future>
#include <stdexcept>
#include <utility>

#include "actors/handle.h"
#include "actors/supervisor.h"
#include "model/model.h"
#include "model/tokenizer.h"

namespace ringtide::actors {
namespace {

struct Configuration : caf::actor_system_config {
  // One queue for all threads: a message waits less than with stealing.
  Configuration() { set("scheduler.policy", caf::atom("sharing")); }
};

FactsPtr make_facts(const SystemOptions& options) {
  Facts facts;
  facts.tokenizer = options.model->tokenizer;
  facts.chat_template = options.model->chat_template;
  facts.model = options.model->config.name;
  facts.fingerprint = options.model->fingerprint;
  facts.version = options.version;
  facts.store_path = options.store_path;
  facts.trained_context = options.model->config.trained_context;
  facts.weight_bytes = options.model->tensors.bytes;
  facts.threads = options.threads;
  facts.shards = options.shards;
  facts.refusal = options.refusal;
  facts.default_policy = options.default_policy;
  facts.max_sessions = static_cast<size_t>(options.max_sessions);
  facts.blocks_ahead = 2 * static_cast<size_t>(options.blocks);
  facts.max_queued_bytes = static_cast<size_t>(options.max_queued_bytes);
  return std::make_shared<const Facts>(std::move(facts));
}

}  // namespace

// What is used by what follows it: destroyed in reverse, the actors first.
struct System::Impl {
  explicit Impl(SystemOptions given)
      : options(std::move(given)),
        facts(make_facts(options)),
        shelf(*options.store, {.shelf_bytes = static_cast<size_t>(options.unwritten_bytes)}) {}

  SystemOptions options;
  FactsPtr facts;
  UnitShelf shelf;
  Configuration configuration;
  std::unique_ptr<caf::actor_system> actors;
  SupervisorActor supervisor;
  std::unique_ptr<protocol::Service> service;
};

System::System(SystemOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {
  Impl& impl = *impl_;
  impl.actors = std::make_unique<caf::actor_system>(impl.configuration);

  // Why the first engine could not be made, for the caller.
  auto failure = std::make_shared<std::exception_ptr>();
  auto gateway = std::make_shared<std::promise<GatewayActor>>();
  Parts parts;
  parts.facts = impl.facts;
  parts.store = impl.options.store.get();
  parts.shelf = &impl.shelf;
  parts.limits.blocks = impl.options.blocks;
  parts.limits.rows = impl.options.rows;
  parts.make_engine = [&impl, failure] {
    try {
      return impl.options.make_engine(impl.shelf);
    } catch (...) {
      *failure = std::current_exception();
      throw;
    }
  };
  parts.started = [gateway](GatewayActor actor) { gateway->set_value(std::move(actor)); };

  impl.supervisor = impl.actors->spawn(actors::supervisor, std::move(parts));
  const GatewayActor door = gateway->get_future().get();
  if (!door) {
    caf::anon_send_exit(impl.supervisor, caf::exit_reason::user_shutdown);
    impl.supervisor = nullptr;
    impl.actors.reset();
    if (*failure) std::rethrow_exception(*failure);
    throw std::runtime_error("the engine could not be started");
  }
  impl.service = make_service(*impl.actors, impl.facts, door);
}

System::~System() { stop(); }

protocol::Service& System::service() { return *impl_->service; }

void System::stop() {
  Impl& impl = *impl_;
  if (!impl.supervisor) return;
  std::promise<void> ended;
  caf::anon_send(impl.supervisor, Shutdown{[&ended] { ended.set_value(); }});
  ended.get_future().wait();
  impl.supervisor = nullptr;
  impl.actors.reset();  // waits for every actor
  impl.service.reset();
}

}  // namespace ringtide::actors

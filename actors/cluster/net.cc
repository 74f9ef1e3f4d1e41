#include "actors/cluster/net.h"

#include <caf/all.hpp>
#include <caf/io/all.hpp>
#include <caf/openssl/all.hpp>
#include <fstream>

#include "actors/cluster/messages.h"

namespace ringtide::actors::cluster {
namespace {

constexpr std::chrono::seconds kListening{10};  // to open a port

void require_readable(const std::string& file) {
  if (!std::ifstream(file).good()) throw NetError("cannot read " + file);
}

caf::io::middleman_actor manager(caf::actor_system& system, bool tls) {
  return tls ? system.openssl_manager().actor_handle() : system.middleman().actor_handle();
}

}  // namespace

struct Net::Config : caf::actor_system_config {
  Config(const Security& security, std::chrono::milliseconds heartbeat,
         std::chrono::milliseconds silence) {
    add_message_types<caf::id_block::ringtide_cluster>();
    load<caf::io::middleman>();
    if (security.on()) {
      load<caf::openssl::manager>();
      openssl_certificate = security.certificate;
      openssl_key = security.key;
      openssl_cafile = security.authority;
    }
    // Latency before throughput: one queue, and bytes are made on the network's own thread.
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", size_t{2});
    set("middleman.workers", size_t{0});
    set("middleman.heartbeat-interval", caf::timespan{heartbeat});
    set("middleman.connection-timeout", caf::timespan{silence});
  }
};

Net::Net(const Security& security, std::chrono::milliseconds heartbeat,
         std::chrono::milliseconds silence)
    : tls_(security.on()) {
  if (tls_) {
    for (const auto* file : {&security.certificate, &security.key, &security.authority})
      require_readable(*file);
  }
  config_ = std::make_unique<Config>(security, heartbeat, silence);
  system_ = std::make_unique<caf::actor_system>(*config_);
}

Net::~Net() = default;

uint16_t Net::publish(caf::strong_actor_ptr actor, std::set<std::string> takes, const Address& at) {
  caf::scoped_actor self(*system_);
  uint16_t port = 0;
  std::string why;
  self->request(manager(*system_, tls_), kListening, caf::publish_atom::value, at.port,
                std::move(actor), std::move(takes), at.host, true)
      .receive([&](uint16_t opened) { port = opened; },
               [&](const caf::error& error) { why = system_->render(error); });
  if (port == 0) throw NetError("cannot listen for shards at " + to_string(at) + ": " + why);
  return port;
}

caf::strong_actor_ptr Net::connect(const Address& to, const std::set<std::string>& takes,
                                   std::chrono::milliseconds most) {
  caf::scoped_actor self(*system_);
  caf::strong_actor_ptr found;
  std::string why = "nobody is to be spoken to there";
  self->request(manager(*system_, tls_), most, caf::connect_atom::value, to.host, to.port)
      .receive(
          [&](const caf::node_id&, caf::strong_actor_ptr& actor, const std::set<std::string>& has) {
            if (actor && !system_->assignable(has, takes)) {
              why = "what answers there is no ringtide of this version";
            } else {
              found = actor;
            }
          },
          [&](const caf::error& error) { why = system_->render(error); });
  if (!found) throw NetError("cannot connect to " + to_string(to) + ": " + why);
  return found;
}

Net::Ending::Ending(const caf::strong_actor_ptr& actor) {
  actor->get()->attach_functor([ended = ended_] { ended->set_value(); });
}

void Net::Ending::wait(Net& net) {
  ended_->get_future().wait();
  // What the actor's end has left to the network's thread comes before this.
  auto done = std::make_shared<std::promise<void>>();
  net.system_->middleman().backend().post([done] { done->set_value(); });
  done->get_future().wait();
}

}  // namespace ringtide::actors::cluster

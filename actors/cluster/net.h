// A process's place on the cluster's network: an actor system that listens and connects.
//
// CAF's protocol knows neither users nor limits, so without certificates it is for loopback alone;
// with them every connection is mutual TLS. Whoever holds a certificate of the authority is let in.
#pragma once

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <set>
#include <string>

#include "actors/cluster/address.h"

namespace ringtide::actors::cluster {

class Net {
 public:
  // A peer that says nothing for `silence` is taken for gone. Throws NetError where the files of
  // `security` are none that can be used.
  explicit Net(const Security& security,
               std::chrono::milliseconds heartbeat = std::chrono::milliseconds{500},
               std::chrono::milliseconds silence = std::chrono::milliseconds{3000});
  ~Net();
  caf::actor_system& system() { return *system_; }

  // Lets others reach an actor there; port 0: any free one. Returns the port. Throws NetError.
  template <class Handle>
  uint16_t publish(const Handle& actor, const Address& at) {
    return publish(caf::actor_cast<caf::strong_actor_ptr>(actor), system_->message_types<Handle>(),
                   at);
  }
  // The actor that is published there. Throws NetError. Waits no longer than `most`.
  template <class Handle>
  Handle connect(const Address& to, std::chrono::milliseconds most) {
    return caf::actor_cast<Handle>(connect(to, system_->message_types<Handle>(), most));
  }

  // The end of a detached actor whose handle others have got. When it ends, CAF has the network's
  // thread let go of it; where that thread has stopped before it comes to that, destroying the
  // system waits for the actor's thread for ever.
  class Ending {
   public:
    // Made when the actor is spawned: whoever attaches first is told last.
    explicit Ending(const caf::strong_actor_ptr& actor);
    // Once it has been told to exit: until the system can be destroyed.
    void wait(Net& net);

   private:
    std::shared_ptr<std::promise<void>> ended_ = std::make_shared<std::promise<void>>();
  };

 private:
  uint16_t publish(caf::strong_actor_ptr actor, std::set<std::string> takes, const Address& at);
  caf::strong_actor_ptr connect(const Address& to, const std::set<std::string>& takes,
                                std::chrono::milliseconds most);
  struct Config;
  std::unique_ptr<Config> config_;
  std::unique_ptr<caf::actor_system> system_;
  const bool tls_;
};

}  // namespace ringtide::actors::cluster

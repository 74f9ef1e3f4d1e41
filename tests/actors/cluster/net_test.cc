// The end of what others reach.
#include "actors/cluster/net.h"

#include <gtest/gtest.h>

#include <caf/all.hpp>
#include <thread>

#include "actors/cluster/messages.h"

namespace ringtide::actors::cluster {
namespace {

using std::chrono::milliseconds;

PeerActor::behavior_type peer() {
  return {[](const Meet&) {}, [](const RingPiece&) {}, [](const RingTaken&) {},
          [](const RingOver&) {}};
}

// Its thread is late to tell the network that it has ended: the system is about to be destroyed.
TEST(Net, CanBeDestroyedWhenADetachedActorHasEndedLate) {
  auto here = std::make_unique<Net>(Security{});
  auto actor = here->system().spawn<caf::detached>(peer);
  auto known = caf::actor_cast<caf::strong_actor_ptr>(actor);
  Net::Ending ending(known);
  const uint16_t port = here->publish(actor, {"127.0.0.1", 0});
  Net there{Security{}};
  const auto seen = there.connect<PeerActor>({"127.0.0.1", port}, milliseconds(20000));
  known->get()->attach_functor([] { std::this_thread::sleep_for(milliseconds(500)); });
  caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
  actor = nullptr;
  known = nullptr;
  ending.wait(*here);
  here.reset();
}

}  // namespace
}  // namespace ringtide::actors::cluster

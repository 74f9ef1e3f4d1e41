#include "actors/cluster/joiner.h"

#include <caf/all.hpp>
#include <condition_variable>
#include <future>
#include <mutex>
#include <utility>

#include "actors/cluster/mailbox.h"
#include "actors/cluster/member.h"
#include "actors/cluster/net.h"
#include "actors/keeper.h"

namespace ringtide::actors::cluster {

struct Joiner::Impl {
  explicit Impl(JoinerOptions given)
      : options(std::move(given)),
        shelf(*options.store, {.shelf_bytes = static_cast<size_t>(options.unwritten_bytes)}),
        units(*options.store, shelf),
        net(options.security) {}

  void refuse(const std::string& why) {
    const std::lock_guard lock(mutex);
    refusal = why;
    changed.notify_all();
  }

  JoinerOptions options;
  UnitShelf shelf;
  ShardUnits units;
  mutable std::mutex mutex;
  mutable std::condition_variable changed;
  std::optional<std::string> refusal;  // guarded by mutex
  uint16_t port = 0;
  Net net;  // its actors use what is above
  KeeperActor writer;
  MailboxActor mailbox;
  MemberActor member;
  std::optional<Net::Ending> ending;  // the member's
};

Joiner::Joiner(JoinerOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {
  Impl& impl = *impl_;
  caf::actor_system& system = impl.net.system();
  impl.mailbox = system.spawn(mailbox);
  const PeerActor door = impl.mailbox;
  impl.port = impl.net.publish(door, impl.options.listen);
  impl.writer = system.spawn<caf::detached>(keeper, impl.options.store, &impl.shelf);
  impl.shelf.on_wake([to = impl.writer] { caf::anon_send(to, UnitsWait{}); });
  MemberParts parts;
  parts.net = &impl.net;
  parts.leader = impl.options.leader;
  parts.terms = impl.options.terms;
  parts.who = {0, impl.options.name, impl.options.listen.host, impl.port};
  parts.mailbox = impl.mailbox;
  parts.make_engine = impl.options.make_engine;
  parts.units = &impl.units;
  parts.refused = [&impl](const std::string& why) { impl.refuse(why); };
  impl.member = system.spawn<caf::detached>(member, std::move(parts));
  impl.ending.emplace(caf::actor_cast<caf::strong_actor_ptr>(impl.member));
}

Joiner::~Joiner() {
  Impl& impl = *impl_;
  const auto reason = caf::exit_reason::user_shutdown;
  caf::anon_send_exit(impl.mailbox, reason);  // ends a call that waits for the ring
  caf::anon_send_exit(impl.member, reason);
  auto flushed = std::make_shared<std::promise<void>>();
  caf::anon_send(impl.writer, Flush{[flushed] { flushed->set_value(); }});
  flushed->get_future().wait();
  impl.shelf.abandon();
  impl.shelf.on_wake({});
  caf::anon_send_exit(impl.writer, reason);
  impl.ending->wait(impl.net);
}

uint16_t Joiner::port() const { return impl_->port; }

std::optional<std::string> Joiner::refused(std::chrono::milliseconds most) const {
  std::unique_lock lock(impl_->mutex);
  impl_->changed.wait_for(lock, most, [&] { return impl_->refusal.has_value(); });
  return impl_->refusal;
}

}  // namespace ringtide::actors::cluster

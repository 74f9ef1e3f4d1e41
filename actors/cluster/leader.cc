#include "actors/cluster/leader.h"

#include <spdlog/spdlog.h>

#include <atomic>
#include <caf/all.hpp>
#include <future>
#include <mutex>
#include <optional>
#include <utility>

#include "actors/cluster/cluster_engine.h"
#include "actors/cluster/mailbox.h"
#include "actors/cluster/net.h"
#include "actors/cluster/registry.h"

namespace ringtide::actors::cluster {
namespace {

using std::chrono::milliseconds;

constexpr int kTries = 8;  // to form a ring, one after the other
// An engine that was called no longer ago is at work: between two tokens there is less.
constexpr milliseconds kAtWork{200};

int64_t microseconds_now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string names(const std::vector<Member>& members) {
  std::string all = "the leader";
  for (const Member& member : members) all += ", " + member.name;
  return all;
}

}  // namespace

struct Leader::Impl {
  explicit Impl(LeaderOptions given)
      : options(std::move(given)), net(options.security), members(options.shards - 1) {}

  Ring form();

  LeaderOptions options;
  Net net;
  MailboxActor mailbox;
  RegistryActor registry;
  uint16_t port = 0;
  const std::shared_ptr<std::atomic<bool>> closing = std::make_shared<std::atomic<bool>>(false);
  std::mutex mutex;
  std::optional<std::string> closed;  // why; guarded by mutex
  // The engine's thread; one engine is made after the other.
  size_t members = 0;   // of the last ring, or to be of the first
  bool formed = false;  // a ring once
  std::string over;     // why the last one is
  std::weak_ptr<RingEnd> last;
  const std::shared_ptr<Activity> activity = std::make_shared<Activity>();
};

Leader::Leader(LeaderOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {
  Impl& impl = *impl_;
  impl.mailbox = impl.net.system().spawn(mailbox);
  RegistryParts parts;
  parts.terms = impl.options.terms;
  parts.generation = static_cast<uint64_t>(microseconds_now());
  parts.mailbox = impl.mailbox;
  parts.step_deadline = impl.options.step_deadline;
  parts.admission = impl.options.admission;
  parts.at_work = [activity = impl.activity] { return activity->within(kAtWork); };
  parts.closing = impl.closing;
  parts.lost = impl.options.lost;
  impl.registry = impl.net.system().spawn(registry, std::move(parts));
  const LeaderActor door = impl.registry;
  impl.port = impl.net.publish(door, impl.options.listen);
}

Leader::~Leader() {
  close("the server stops");
  caf::anon_send_exit(impl_->registry, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(impl_->mailbox, caf::exit_reason::user_shutdown);
}

uint16_t Leader::port() const { return impl_->port; }

// The first ring is of as many as are to be; later ones wait a little for as many as there were.
Ring Leader::Impl::form() {
  auto answer = std::make_shared<std::promise<Ring>>();
  auto ring = answer->get_future();
  FormRing ask;
  ask.members = members;
  ask.sessions = options.sessions();
  ask.required = !formed;
  ask.wait_ms = (formed ? options.next_ring : options.first_ring).count();
  ask.done = [answer](Ring made) { answer->set_value(std::move(made)); };
  caf::anon_send(registry, std::move(ask));
  while (ring.wait_for(milliseconds(100)) != std::future_status::ready) {
    const std::lock_guard lock(mutex);
    if (closed) throw model::RingError(*closed);
  }
  return ring.get();
}

std::unique_ptr<model::Engine> Leader::make_engine(model::UnitStore& units) {
  Impl& impl = *impl_;
  const auto began = std::chrono::steady_clock::now();
  const auto before = impl.last.lock();
  const std::string cause = (before ? before->over() : std::nullopt).value_or("its engine failed");
  Ring ring;
  std::unique_ptr<model::Engine> own;
  for (int i = 0; i < kTries && !own; ++i) {
    ring = impl.form();
    if (!ring.end) {
      if (!impl.formed && ring.short_of_members) break;
      spdlog::warn("no ring yet: {}", ring.why);
      continue;
    }
    try {
      own = impl.options.make_engine(units, *ring.end);
    } catch (const model::RingError& error) {
      ring.why = error.what();
      spdlog::warn("no ring yet: {}", ring.why);
    } catch (const std::exception& error) {
      ring.end->abort(error.what());
      throw;
    }
  }
  if (!own) throw model::RingError("no ring of shards could be formed: " + ring.why);
  const auto ms =
      std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - began);
  if (impl.formed) {
    spdlog::warn("the ring was formed again, of {} shards ({}), in {} ms; the last one ended: {}",
                 ring.members.size() + 1, names(ring.members), ms.count(), cause);
  } else {
    spdlog::info("a ring of {} shards was formed: {}", ring.members.size() + 1,
                 names(ring.members));
  }
  impl.formed = true;
  impl.members = ring.members.size();
  impl.last = ring.end;
  ClusterEngine::Others others;
  others.send = [shards = ring.shards, generation = ring.generation](Bytes call) {
    for (const ShardActor& shard : shards) caf::anon_send(shard, MakeCall{generation, {call}});
  };
  others.disband = [shards = ring.shards, generation = ring.generation] {
    for (const ShardActor& shard : shards) caf::anon_send(shard, Disband{generation});
  };
  return std::make_unique<ClusterEngine>(ring.end, std::move(own), std::move(others),
                                         impl.activity);
}

std::vector<Member> Leader::shards() const {
  auto listed = std::make_shared<std::promise<std::vector<Member>>>();
  auto members = listed->get_future();
  caf::anon_send(impl_->registry, ListShards{[listed](std::vector<Member> all) {
                   listed->set_value(std::move(all));
                 }});
  return members.get();
}

void Leader::held(uint64_t session, std::function<void(std::vector<ShardHolding>)> done) const {
  caf::anon_send(impl_->registry, AskHeld{session, std::move(done)});
}

void Leader::close(const std::string& why) {
  const std::lock_guard lock(impl_->mutex);
  if (!impl_->closed) impl_->closed = why;
  *impl_->closing = true;
}

}  // namespace ringtide::actors::cluster

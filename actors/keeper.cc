#include "actors/keeper.h"

#include <spdlog/spdlog.h>

#include <caf/all.hpp>

#include "actors/summary.h"

namespace ringtide::actors {
namespace {

storage::Result<storage::SessionEntry> find(storage::Store& store, const RemoveCall& call) {
  return call.id ? store.find(call.id) : store.find(call.name);
}

storage::Status remove(storage::Store& store, UnitShelf& shelf, SessionId id) {
  // First, so that no unit comes after the removal and stays for good.
  shelf.forget(id);
  storage::Status status = store.remove(id);
  const bool stays = !status.ok() && store.find(id).status().code() != storage::Code::NotFound;
  if (stays) shelf.remember(id);
  return status;
}

void flush(storage::Store& store, UnitShelf& shelf) {
  while (shelf.write_batch()) {
  }
  if (const auto status = store.flush(); !status.ok()) {
    spdlog::error("units may be made again after the next start: {}", status.message());
  }
}

}  // namespace

KeeperActor::behavior_type keeper(KeeperActor::pointer self, storage::Store* store,
                                  UnitShelf* shelf) {
  return {
      [=](const UnitsWait&) {
        if (shelf->write_batch()) self->send(self, UnitsWait{});
      },
      [=](const Remove& m) {
        const auto found = find(*store, m.call);
        m.call.reply(
            to_outcome(found.ok() ? remove(*store, *shelf, found.value().id) : found.status()));
      },
      [=](const Flush& m) {
        flush(*store, *shelf);
        m.done();
      },
  };
}

}  // namespace ringtide::actors

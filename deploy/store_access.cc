#include "deploy/store_access.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <utility>

#include "deploy/failure.h"

namespace ringtide::deploy {

void require_ok(const storage::Status& status) {
  if (status.ok()) return;
  const bool absent = status.code() == storage::Code::NotFound;
  throw Failure(absent ? Exit::NotFound : Exit::Store, status.message());
}

std::unique_ptr<storage::Store> open_store(const std::string& path,
                                           const storage::StoreOptions& options) {
  std::error_code error;
  if (!options.create && !std::filesystem::exists(path, error)) {
    throw Failure(Exit::Store,
                  fmt::format("there is no store at {}: check --store, or name a running "
                              "server with --connect",
                              path));
  }
  auto store = storage::Store::open(path, options);
  if (store.ok()) {
    if (const std::string aside = store.value()->stats().set_aside; !aside.empty())
      spdlog::warn("the database of units was damaged: moved to {}, units are made again", aside);
    return std::move(store.value());
  }
  std::string message = store.status().message();
  if (store.status().code() == storage::Code::Busy) {
    message += "; if that is a running 'ringtide serve', talk to it with --connect ADDR";
  }
  if (store.status().code() == storage::Code::ReadOnly) {
    message += ", or name another folder with --store";
  }
  throw Failure(Exit::Store, message);
}

}  // namespace ringtide::deploy

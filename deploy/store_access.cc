#include "deploy/store_access.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <utility>

#include "deploy/failure.h"
#include "model/policy_config.h"

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
  throw Failure(Exit::Store, message);
}

protocol::SessionInfo stored_info(storage::Store& store, const storage::SessionEntry& entry) {
  protocol::SessionInfo info;
  info.name = entry.name;
  info.id = entry.id;
  info.created_ms = entry.created_ms;
  info.state = "stored";
  require_ok(store.replay(entry.id, [&](uint64_t, storage::LogRecord&& record) {
    if (const auto* opened = std::get_if<storage::Opened>(&record)) {
      info.policy = model::to_string(static_cast<model::PolicyKind>(opened->policy.kind));
      info.template_family = opened->template_family;
    }
    return false;
  }));
  auto size = store.size(entry.id);
  require_ok(size.status());
  info.tokens = size.value().tokens;
  info.appended_bytes = static_cast<uint64_t>(size.value().text_bytes);
  info.units = size.value().units;
  info.bytes_store = size.value().unit_bytes + size.value().log_bytes;
  return info;
}

}  // namespace ringtide::deploy

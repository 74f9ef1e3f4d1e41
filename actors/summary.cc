#include "actors/summary.h"

#include <algorithm>
#include <utility>

namespace ringtide::actors {

protocol::Outcome to_outcome(const storage::Status& status) {
  using protocol::Code;
  Code code = Code::Storage;
  switch (status.code()) {
    case storage::Code::Ok:
      return {};
    case storage::Code::NotFound:
      code = Code::NotFound;
      break;
    case storage::Code::Exists:
      code = Code::Exists;
      break;
    case storage::Code::NoSpace:
      code = Code::StorageFull;
      break;
    default:
      break;
  }
  return {code, status.message(), 0};
}

storage::Status read_log(storage::Store& store, storage::SessionId id, SessionLog& log) {
  std::string wrong;
  storage::Status status = store.replay(id, [&](uint64_t sequence, storage::LogRecord&& record) {
    wrong = log.apply(std::move(record));
    if (!wrong.empty()) {
      wrong = "the log of session " + std::to_string(id) + " has at record " +
              std::to_string(sequence) + " " + wrong + "; nothing was changed or deleted";
    }
    return wrong.empty();
  });
  if (!wrong.empty()) return {storage::Code::Corrupt, wrong};
  if (status.ok() && !log.opened()) {
    return {storage::Code::NotFound, "session " + std::to_string(id) + " has no log"};
  }
  return status;
}

namespace {

protocol::SessionInfo read_summary(storage::Store& store, const storage::SessionEntry& entry) {
  protocol::SessionInfo info;
  info.name = entry.name;
  info.id = entry.id;
  info.created_ms = entry.created_ms;
  info.state = "stored";
  const auto status = store.replay(entry.id, [&](uint64_t, storage::LogRecord&& record) {
    if (const auto* opened = std::get_if<storage::Opened>(&record)) {
      info.policy = model::to_string(to_config(opened->policy).kind);
      info.template_family = opened->template_family;
    }
    return false;
  });
  if (!status.ok()) info.state = "corrupt";
  return info;
}

}  // namespace

storage::Result<std::vector<protocol::SessionInfo>> summarise(
    storage::Store& store, const std::string& name, storage::SessionId id,
    const std::vector<protocol::SessionInfo>& live) {
  std::vector<storage::SessionEntry> entries;
  if (id || !name.empty()) {
    auto found = id ? store.find(id) : store.find(name);
    if (!found.ok()) return found.status();
    entries.push_back(found.value());
  } else {
    auto all = store.list();
    if (!all.ok()) return all.status();
    entries = std::move(all.value());
  }
  std::vector<protocol::SessionInfo> infos;
  for (const storage::SessionEntry& entry : entries) {
    const auto it = std::find_if(live.begin(), live.end(),
                                 [&](const auto& info) { return info.id == entry.id; });
    const bool is_live = it != live.end();
    infos.push_back(is_live ? *it : read_summary(store, entry));
    protocol::SessionInfo& info = infos.back();
    const auto size = store.size(entry.id);
    if (!size.ok()) {
      if (!is_live) info.state = "corrupt";
      continue;
    }
    info.units = std::max(info.units, size.value().units);
    info.bytes_store = size.value().unit_bytes + size.value().log_bytes;
    if (is_live) continue;
    info.tokens = size.value().tokens;
    info.appended_bytes = static_cast<uint64_t>(size.value().text_bytes);
  }
  return infos;
}

}  // namespace ringtide::actors

#include "storage/session_log.h"

#include <algorithm>
#include <chrono>

#include "storage/keys.h"
#include "storage/rows.h"

namespace ringtide::storage {
namespace {

std::string name_of(SessionId id) { return "session " + std::to_string(id); }

int64_t now_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

}  // namespace

Status SessionLog::unknown(SessionId id) const {
  return {Code::NotFound, "there is no " + name_of(id)};
}

Status SessionLog::write_synced(rocksdb::WriteBatch& batch) {
  rocksdb::WriteOptions options;
  options.sync = true;
  Status status = db_->write(options, batch);
  if (status.ok()) ++syncs_;
  return status;
}

Result<SessionEntry> SessionLog::create(const std::string& name, const Opened& opened) {
  const std::lock_guard changing(changing_);
  {
    const std::lock_guard lock(mutex_);
    if (names_.contains(name))
      return Status(Code::Exists, "a session named \"" + name + "\" exists: use another name");
  }
  const SessionEntry entry{.id = next_id_, .name = name, .created_ms = now_ms()};
  const std::string record = encode(opened);
  rocksdb::WriteBatch batch;
  const auto put = [&](const std::string& key, const std::string& value) {
    return batch.Put(key, value);
  };
  const std::string session_key = keys::session(entry.id), log_key = keys::log(entry.id, 0),
                    totals_key = keys::totals(entry.id);
  TotalsRow totals;
  totals.count(opened);
  rocksdb::Status built = put(session_key, pack_session(session_key, entry));
  if (built.ok()) built = put(log_key, pack_log(log_key, 0, record));
  if (built.ok()) built = put(totals_key, pack_totals(totals_key, totals));
  if (built.ok())
    built = put(keys::next_session(), pack_number(keys::next_session(), entry.id + 1));
  if (!built.ok()) return db_->translate(built, "write to");
  if (Status status = write_synced(batch); !status.ok()) return status;
  ++next_id_;
  const std::lock_guard lock(mutex_);
  sessions_[entry.id] = {.entry = entry,
                         .end = End{.sequence = 1, .bytes = record.size(), .totals = totals},
                         .unsure = false};
  names_[name] = entry.id;
  return entry;
}

Result<SessionEntry> SessionLog::find(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = names_.find(name);
  if (found == names_.end())
    return Status(Code::NotFound, "there is no session named \"" + name + "\"");
  return *sessions_.at(found->second).entry;
}

Result<SessionEntry> SessionLog::find(SessionId id) {
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return unknown(id);
  if (!found->second.entry)
    return Status(Code::Corrupt, "the entry of " + name_of(id) +
                                     " does not match its checksum: its name is lost, its log can "
                                     "be replayed, it can be removed");
  return *found->second.entry;
}

std::vector<SessionEntry> SessionLog::list() {
  const std::lock_guard lock(mutex_);
  std::vector<SessionEntry> entries;
  for (const auto& [id, session] : sessions_)
    if (session.entry) entries.push_back(*session.entry);
  return entries;
}

Status SessionLog::append(std::span<const LogWrite> writes) {
  if (writes.empty()) return {};
  rocksdb::WriteBatch batch;
  std::map<SessionId, End> ends;
  for (const LogWrite& write : writes) {
    auto at = ends.find(write.session);
    if (at == ends.end()) {
      Result<End> end = end_of(write.session);
      if (!end.ok()) return end.status();
      at = ends.emplace(write.session, end.value()).first;
      if (Status status = make_sure(write.session, end.value(), batch); !status.ok()) return status;
    }
    End& end = at->second;
    if (write.sequence != end.sequence)
      return {Code::Failed, name_of(write.session) + ": record " + std::to_string(write.sequence) +
                                " was to be appended, the log goes on with " +
                                std::to_string(end.sequence)};
    const std::string key = keys::log(write.session, write.sequence);
    const std::string record = encode(write.record);
    const rocksdb::Status built = batch.Put(key, pack_log(key, end.bytes, record));
    if (!built.ok()) return db_->translate(built, "write to");
    ++end.sequence;
    end.bytes += record.size();
    if (end.totals) end.totals->count(write.record);
  }
  for (const auto& [id, end] : ends) {
    if (!end.totals) continue;
    const std::string key = keys::totals(id);
    const rocksdb::Status built = batch.Put(key, pack_totals(key, *end.totals));
    if (!built.ok()) return db_->translate(built, "write to");
  }
  const Status status = write_synced(batch);
  const std::lock_guard lock(mutex_);
  for (const auto& [id, end] : ends) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) continue;
    found->second.unsure = !status.ok();
    if (status.ok()) found->second.end = end;
  }
  return status;
}

Status SessionLog::make_sure(SessionId id, const End& end, rocksdb::WriteBatch& batch) {
  std::optional<SessionEntry> entry;
  {
    const std::lock_guard lock(mutex_);
    const auto found = sessions_.find(id);
    if (found == sessions_.end() || !found->second.unsure) return {};
    entry = found->second.entry;
  }
  rocksdb::Status built = batch.DeleteRange(keys::log(id, end.sequence), keys::log_of(id).last);
  if (built.ok()) built = batch.Delete(keys::doomed(id));
  if (built.ok() && entry)
    built = batch.Put(keys::session(id), pack_session(keys::session(id), *entry));
  return db_->translate(built, "write to");
}

Status SessionLog::replay(SessionId id, const std::function<bool(uint64_t, LogRecord&&)>& visit) {
  // What a failed write left behind counts no more, and is undone by the next one.
  std::optional<uint64_t> end;
  {
    const std::lock_guard lock(mutex_);
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return unknown(id);
    if (found->second.unsure && found->second.end) end = found->second.end->sequence;
  }
  uint64_t next = 0;
  Status damage;
  const auto damaged = [&](const std::string& what) {
    damage = {Code::Corrupt, name_of(id) + ", record " + std::to_string(next) + ": " + what};
    return false;
  };
  Status read = db_->scan(0, keys::log_of(id), [&](std::string_view key, std::string_view value) {
    const auto sequence = keys::parse_log_sequence(key);
    if (!sequence) return damaged("its key has no known form");
    if (end && *sequence >= *end) return false;
    if (*sequence != next) return damaged("it is missing, the log goes on after it");
    const auto row = unpack_log(key, value);
    if (!row) return damaged("it does not match its checksum");
    Result<LogRecord> record = decode(std::as_bytes(std::span(row->record)));
    if (!record.ok()) {
      damaged(record.status().message());
      damage = {record.status().code(), damage.message()};
      return false;
    }
    return visit(next++, std::move(record.value()));
  });
  if (!damage.ok()) return damage;
  if (read.ok() && next == 0) damaged("it is missing");
  return read.ok() ? damage : read;
}

Status SessionLog::size(SessionId id, SessionSize& size) {
  Result<End> found = end_of(id);
  if (!found.ok()) return found.status();
  End& end = found.value();
  if (!end.totals) {
    TotalsRow totals;
    Status read = replay(id, [&](uint64_t sequence, LogRecord&& record) {
      if (sequence >= end.sequence) return false;
      totals.count(record);
      return true;
    });
    if (!read.ok()) return read;
    end.totals = totals;
    const std::lock_guard lock(mutex_);
    const auto session = sessions_.find(id);
    if (session != sessions_.end() && session->second.end->sequence == end.sequence)
      session->second.end->totals = totals;
  }
  size.log_bytes = static_cast<int64_t>(end.bytes);
  size.tokens = static_cast<int64_t>(end.totals->tokens);
  size.text_bytes = static_cast<int64_t>(end.totals->text_bytes);
  return {};
}

Result<SessionLog::End> SessionLog::end_of(SessionId id) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return unknown(id);
    if (found->second.end) return *found->second.end;
  }
  Result<End> end = find_end(id);
  if (!end.ok()) return end;
  const std::lock_guard lock(mutex_);
  if (const auto found = sessions_.find(id); found != sessions_.end())
    found->second.end = end.value();
  return end;
}

Result<SessionLog::End> SessionLog::find_end(SessionId id) {
  const keys::Range range = keys::log_of(id);
  const rocksdb::Slice first = slice(range.first), last = slice(range.last);
  rocksdb::ReadOptions options;
  options.iterate_lower_bound = &first;
  options.iterate_upper_bound = &last;
  auto used = db_->use();
  if (!used.ok()) return used.status();
  const std::unique_ptr<rocksdb::Iterator> it(used.value()->db->NewIterator(options));
  it->SeekToLast();
  if (!it->status().ok()) return db_->translate(it->status(), "read from");
  if (!it->Valid()) return Status(Code::Corrupt, name_of(id) + ": its log is missing");
  const auto sequence = keys::parse_log_sequence(view(it->key()));
  const auto row = unpack_log(view(it->key()), view(it->value()));
  if (!sequence || !row)
    return Status(Code::Corrupt, name_of(id) + ": the last record of its log is damaged");
  End end{.sequence = *sequence + 1,
          .bytes = row->bytes_before + row->record.size(),
          .totals = std::nullopt};
  std::string value;
  if (db_->get(0, keys::totals(id), value).ok())
    if (const auto totals = unpack_totals(keys::totals(id), value))
      if (totals->records == end.sequence) end.totals = totals;
  return end;
}

Status SessionLog::begin_remove(SessionId id) {
  const std::lock_guard changing(changing_);
  if (!exists(id)) return unknown(id);
  rocksdb::WriteBatch batch;
  rocksdb::Status built = batch.Delete(keys::session(id));
  if (built.ok()) built = batch.Put(keys::doomed(id), pack_number(keys::doomed(id), id));
  if (!built.ok()) return db_->translate(built, "write to");
  const Status written = write_synced(batch);
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(id);
  if (!written.ok()) {
    found->second.unsure = true;
    return written;
  }
  if (found->second.entry) names_.erase(found->second.entry->name);
  sessions_.erase(found);
  doomed_.push_back(id);
  return {};
}

Status SessionLog::finish_remove(SessionId id) {
  const keys::Range log = keys::log_of(id);
  rocksdb::WriteBatch batch;
  rocksdb::Status built = batch.DeleteRange(log.first, log.last);
  if (built.ok()) built = batch.Delete(keys::totals(id));
  if (built.ok()) built = batch.Delete(keys::doomed(id));
  if (!built.ok()) return db_->translate(built, "write to");
  if (Status status = write_synced(batch); !status.ok()) return status;
  const std::lock_guard lock(mutex_);
  std::erase(doomed_, id);
  return {};
}

std::vector<SessionId> SessionLog::doomed() {
  const std::lock_guard lock(mutex_);
  return doomed_;
}

bool SessionLog::exists(SessionId id) {
  const std::lock_guard lock(mutex_);
  return sessions_.contains(id);
}

int64_t SessionLog::sessions() {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(sessions_.size());
}

}  // namespace ringtide::storage

// Works on a store until it is killed, and says on standard output what was acknowledged, one line
// each: "append <sequence>", "put <sequence>", "created <id>", "removed <id>".
// Usage: storage_crash_child <store>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "storage/store.h"

using namespace ringtide::storage;

namespace {

void say(const std::string& line) {
  const std::string text = line + "\n";
  if (::write(STDOUT_FILENO, text.data(), text.size()) != ssize_t(text.size())) std::abort();
}

void need(const Status& status) {
  if (status.ok()) return;
  say("failed " + status.message());
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  StoreOptions options;
  options.fingerprint = "model A";
  auto opened = Store::open(argv[1], options);
  need(opened.status());
  Store& store = *opened.value();

  auto session = store.find("main");
  if (!session.ok()) session = store.create("main", {});
  need(session.status());
  const SessionId id = session.value().id;
  uint64_t next = 0;
  need(store.replay(id, [&](uint64_t, LogRecord&&) { return ++next > 0; }));

  for (;; ++next) {
    const LogWrite write{
        .session = id, .sequence = next, .record = Generated{.tokens = {int32_t(next)}}};
    need(store.append({&write, 1}));
    say("append " + std::to_string(next));

    // The unit's bytes follow from its number, so that the test can tell right from wrong.
    const std::vector<std::byte> part(2000 + next % 100, std::byte(next));
    const UnitWrite unit{
        .owner = id, .key = {7, next}, .number = int64_t(next), .parts = {part, part}};
    need(store.put({&unit, 1}));
    say("put " + std::to_string(next));
    if (next % 7 == 0) need(store.flush());

    if (next % 3 == 0) {
      auto passing = store.create("passing " + std::to_string(next), {});
      need(passing.status());
      say("created " + std::to_string(passing.value().id));
      UnitWrite shared = unit;
      shared.owner = passing.value().id;
      need(store.put({&shared, 1}));
      if (next % 2 == 0) {
        need(store.remove(passing.value().id));
        say("removed " + std::to_string(passing.value().id));
      }
    }
  }
}

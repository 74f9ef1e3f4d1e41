#include "deploy/failure.h"

#include <fmt/core.h>

#include <cstdio>
#include <new>

#include "deploy/describe.h"
#include "deploy/output.h"
#include "model/types.h"

namespace ringtide::deploy {

Exit exit_of(const protocol::Outcome& outcome) {
  using protocol::Code;
  switch (outcome.code) {
    case Code::Ok:
      return Exit::Ok;
    case Code::NotFound:
      return Exit::NotFound;
    case Code::Invalid:
      return Exit::Usage;
    case Code::Exists:
    case Code::OffsetMismatch:
    case Code::Busy:
    case Code::Overloaded:
    case Code::ModelMismatch:
      return Exit::Refused;
    case Code::StorageFull:
    case Code::Storage:
      return Exit::Store;
    case Code::Stopping:
      return Exit::Unreachable;
    case Code::Internal:
      break;
  }
  return Exit::Failed;
}

int report(Exit code, std::string message, bool json) {
  if (code == Exit::ClosedPipe) return static_cast<int>(code);
  if (code == Exit::NotFound) {
    message += "; 'ringtide sessions ls', at the same --connect or --store, tells which there are";
  }
  if (json) {
    try_print(
        to_line({{"event", "error"}, {"code", static_cast<int>(code)}, {"message", message}}));
  }
  fmt::print(stderr, "ringtide: {}\n", message);
  return static_cast<int>(code);
}

int run_reporting(const std::function<void()>& command, bool json) {
  auto fail = [&](Exit code, const char* what) { return report(code, what, json); };
  try {
    command();
    require_printed();
    return static_cast<int>(Exit::Ok);
  } catch (const Failure& e) {
    return fail(e.code, e.what());
  } catch (const protocol::ClientError& e) {
    return fail(e.lost ? Exit::Unreachable : exit_of(e.outcome), e.what());
  } catch (const model::ModelError& e) {
    return fail(Exit::Model, e.what());
  } catch (const std::bad_alloc&) {
    return fail(Exit::Failed, "out of memory: give a smaller --ram-budget, or a smaller model");
  } catch (const std::exception& e) {
    return fail(Exit::Failed, e.what());
  }
}

}  // namespace ringtide::deploy

#include "deploy/failure.h"

#include <fmt/core.h>

#include <cstdio>
#include <new>

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

int run_reporting(const std::function<void()>& command) {
  auto fail = [](Exit code, const char* what) {
    std::fflush(stdout);
    fmt::print(stderr, "ringtide: {}\n", what);
    return static_cast<int>(code);
  };
  try {
    command();
    if (std::fflush(stdout) != 0) return fail(Exit::Failed, "cannot write to standard output");
    return static_cast<int>(Exit::Ok);
  } catch (const Failure& e) {
    return fail(e.code, e.what());
  } catch (const protocol::ClientError& e) {
    return fail(exit_of(e.outcome), e.what());
  } catch (const model::ModelError& e) {
    return fail(Exit::Model, e.what());
  } catch (const std::bad_alloc&) {
    return fail(Exit::Failed, "out of memory: give a smaller --ram-budget, or a smaller model");
  } catch (const std::exception& e) {
    return fail(Exit::Failed, e.what());
  }
}

}  // namespace ringtide::deploy

#include "deploy/output.h"

#include <fmt/core.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "deploy/failure.h"

namespace ringtide::deploy {

namespace {

int failed = 0;  // errno of the first write that failed

}  // namespace

bool try_print(std::string_view text) {
  if (failed != 0) return false;
  errno = 0;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!written || std::fflush(stdout) != 0) failed = errno != 0 ? errno : EIO;
  return failed == 0;
}

void require_printed() {
  if (try_print("")) return;
  if (failed == EPIPE) throw Failure(Exit::ClosedPipe, "");
  throw Failure(Exit::Failed,
                fmt::format("cannot write to standard output: {}", std::strerror(failed)));
}

void print(std::string_view text) {
  try_print(text);
  require_printed();
}

}  // namespace ringtide::deploy

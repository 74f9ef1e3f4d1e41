#include "deploy/conversation.h"

#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "actors/compose.h"
#include "deploy/failure.h"
#include "deploy/format.h"
#include "deploy/interrupt.h"
#include "deploy/program.h"

namespace ringtide::deploy {

Conversation open_conversation(const char* command, const TargetOptions& target,
                               const SessionOptions& options, Progress& progress) {
  exit_on_interrupt("\nringtide: interrupted\n");
  Conversation c;
  c.connection = connect(target, progress);
  c.session = c.connection.client->open(open_request(options), &c.opened, &c.created);
  c.resume =
      fmt::format("{} {} --session {}{}{}{}", program(), command, quote_for_shell(c.opened.name),
                  c.connection.flags.empty() ? "" : " ", c.connection.flags,
                  command == std::string_view("ask") ? " --prompt TEXT" : "");
  exit_on_interrupt(fmt::format(
      "\nringtide: interrupted; what was acknowledged is stored. Go on with:\n  {}\n", c.resume));
  if (!c.created) {
    const std::string unused = not_applied(options, c.opened);
    if (!unused.empty()) fmt::print(stderr, "ringtide: {}\n", unused);
    wait_ingested(*c.session, progress);
    c.opened = c.session->info();
  }
  return c;
}

void converse(const Conversation& conversation, const std::function<void()>& work) {
  try {
    work();
  } catch (const protocol::ClientError& e) {
    if (!e.lost) throw;
    throw Failure(Exit::Unreachable, fmt::format("{}: {}", e.what(), conversation.resume));
  }
}

void require_valid(const protocol::GenerateParams& params) {
  const std::string wrong = actors::invalid(params);
  if (!wrong.empty()) throw Failure(Exit::Usage, wrong);
}

namespace {

void draw(const protocol::SessionInfo& info, Progress& progress) {
  if (info.state == "restoring") {
    progress.start("restoring", "tokens", info.to_restore);
    progress.update(info.restored, info.to_restore);
  } else {
    progress.start("ingesting", "tokens", info.tokens);
    progress.update(info.processed, info.tokens);
  }
}

}  // namespace

void wait_ingested(protocol::ClientSession& session, Progress& progress) {
  session.wait_ingested([&](const protocol::SessionInfo& info) { draw(info, progress); });
  progress.stop();
}

TextSource::TextSource(const std::vector<std::string>& files, std::string last)
    : last_(std::move(last)), total_(static_cast<int64_t>(last_.size())) {
  for (const std::string& name : files) {
    std::FILE* file = name == "-" ? stdin : std::fopen(name.c_str(), "rb");
    struct stat status {};
    if (file == nullptr || fstat(fileno(file), &status) != 0 || S_ISDIR(status.st_mode)) {
      const int error = file == nullptr ? errno : EISDIR;
      throw Failure(Exit::Usage, fmt::format("cannot read {}: {}", name, std::strerror(error)));
    }
    known_ = known_ && S_ISREG(status.st_mode);
    total_ += status.st_size;
    files_.push_back(file);
  }
  std::reverse(files_.begin(), files_.end());
}

TextSource::~TextSource() {
  for (std::FILE* file : files_) {
    if (file != stdin) std::fclose(file);
  }
}

std::string TextSource::next() {
  while (!files_.empty()) {
    std::string piece(32 << 10, '\0');
    piece.resize(std::fread(piece.data(), 1, piece.size(), files_.back()));
    if (!piece.empty()) return piece;
    if (std::ferror(files_.back()) != 0) {
      throw Failure(Exit::Failed, fmt::format("reading the text failed: {}", strerror(errno)));
    }
    if (files_.back() != stdin) std::fclose(files_.back());
    files_.pop_back();
  }
  return std::exchange(last_, "");
}

protocol::GenerateResult answer(protocol::ClientSession& session,
                                const protocol::GenerateParams& params, Progress& progress,
                                const std::function<bool(const protocol::TextChunk&)>& chunk) {
  const InterruptScope interrupt;
  progress.start("thinking", "", 0);
  bool began = false;
  const protocol::GenerateResult result = session.generate(
      params,
      [&](const protocol::TextChunk& piece) {
        began = true;
        progress.stop();
        return chunk(piece) && !interrupt.interrupted();
      },
      [&] {
        if (interrupt.interrupted()) return false;
        if (began || !progress.on()) return true;
        const protocol::SessionInfo info = session.info();
        if (info.state == "restoring" || info.processed < info.tokens) draw(info, progress);
        return true;
      });
  progress.stop();
  return result;
}

}  // namespace ringtide::deploy

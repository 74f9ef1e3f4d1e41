#include "protocol/wire.h"

namespace ringtide::protocol {

std::string to_string(capnp::Text::Reader text) { return {text.begin(), text.size()}; }

std::string to_string(capnp::Data::Reader bytes) {
  return {reinterpret_cast<const char*>(bytes.begin()), bytes.size()};
}

capnp::Data::Reader to_data(std::string_view bytes) {
  return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}

// The enumerators of both sides are the same, in the same order.
static_assert(static_cast<int>(Code::Stopping) == static_cast<int>(wire::Code::STOPPING));
static_assert(static_cast<int>(Code::OffsetMismatch) ==
              static_cast<int>(wire::Code::OFFSET_MISMATCH));
static_assert(static_cast<int>(Code::StorageFull) == static_cast<int>(wire::Code::STORAGE_FULL));
static_assert(static_cast<int>(FinishReason::Error) == static_cast<int>(wire::FinishReason::ERROR));

void write(const Outcome& outcome, wire::Error::Builder to) {
  to.setCode(static_cast<wire::Code>(outcome.code));
  to.setMessage(outcome.message);
  to.setOffset(outcome.offset);
}

Outcome read(wire::Error::Reader from) {
  const bool known = from.getCode() <= wire::Code::STOPPING;
  return {known ? static_cast<Code>(from.getCode()) : Code::Internal, to_string(from.getMessage()),
          from.getOffset()};
}

void write(const OpenRequest& request, wire::OpenRequest::Builder to) {
  auto session = to.initSession();
  session.setName(request.name);
  session.setId(request.id);
  to.setMode(request.must_exist    ? wire::OpenRequest::Mode::RESUME
             : request.must_create ? wire::OpenRequest::Mode::CREATE
                                   : wire::OpenRequest::Mode::ANY);
  auto policy = to.initPolicy();
  policy.setName(request.policy.name);
  policy.setWindow(request.policy.window);
  policy.setSinks(request.policy.sinks);
  policy.setUnit(request.policy.unit);
  policy.setBlock(request.policy.block);
  policy.setSelect(request.policy.select);
  policy.setRepresentatives(request.policy.representatives);
  policy.setVote(request.policy.vote);
  policy.setProbe(request.policy.probe);
  to.setTemplateFamily(request.template_family);
  if (request.system) to.getSystem().setText(*request.system);
}

OpenRequest read(wire::OpenRequest::Reader from) {
  OpenRequest request;
  request.name = to_string(from.getSession().getName());
  request.id = from.getSession().getId();
  request.must_exist = from.getMode() == wire::OpenRequest::Mode::RESUME;
  request.must_create = from.getMode() == wire::OpenRequest::Mode::CREATE;
  const auto policy = from.getPolicy();
  request.policy.name = to_string(policy.getName());
  request.policy.window = policy.getWindow();
  request.policy.sinks = policy.getSinks();
  request.policy.unit = policy.getUnit();
  request.policy.block = policy.getBlock();
  request.policy.select = policy.getSelect();
  request.policy.representatives = policy.getRepresentatives();
  request.policy.vote = to_string(policy.getVote());
  request.policy.probe = policy.getProbe();
  request.template_family = to_string(from.getTemplateFamily());
  if (from.getSystem().isText()) request.system = to_string(from.getSystem().getText());
  return request;
}

void write(const SessionInfo& info, wire::SessionInfo::Builder to) {
  to.setName(info.name);
  to.setId(info.id);
  to.setCreatedMs(info.created_ms);
  to.setState(info.state);
  to.setPolicy(info.policy);
  to.setTemplateFamily(info.template_family);
  to.setTokens(info.tokens);
  to.setProcessed(info.processed);
  to.setAppendedBytes(info.appended_bytes);
  to.setUnits(info.units);
  to.setBytesGpu(info.bytes_gpu);
  to.setBytesRam(info.bytes_ram);
  to.setBytesStore(info.bytes_store);
  to.setUnitsSelected(info.units_selected);
  to.setReadsRam(info.reads_ram);
  to.setReadsStore(info.reads_store);
  to.setUnitsRecomputed(info.units_recomputed);
  to.setToRestore(info.to_restore);
  to.setRestored(info.restored);
  to.setRunAgain(info.run_again);
  auto shards = to.initShards(info.shards.size());
  for (size_t i = 0; i < info.shards.size(); ++i) {
    const ShardInfo& shard = info.shards[i];
    shards[i].setName(shard.name);
    shards[i].setAnswers(shard.answers);
    shards[i].setUnits(shard.units);
    shards[i].setBytesRam(shard.bytes_ram);
    shards[i].setBytesStore(shard.bytes_store);
  }
}

SessionInfo read(wire::SessionInfo::Reader from) {
  SessionInfo info;
  info.name = to_string(from.getName());
  info.id = from.getId();
  info.created_ms = from.getCreatedMs();
  info.state = to_string(from.getState());
  info.policy = to_string(from.getPolicy());
  info.template_family = to_string(from.getTemplateFamily());
  info.tokens = from.getTokens();
  info.processed = from.getProcessed();
  info.appended_bytes = from.getAppendedBytes();
  info.units = from.getUnits();
  info.bytes_gpu = from.getBytesGpu();
  info.bytes_ram = from.getBytesRam();
  info.bytes_store = from.getBytesStore();
  info.units_selected = from.getUnitsSelected();
  info.reads_ram = from.getReadsRam();
  info.reads_store = from.getReadsStore();
  info.units_recomputed = from.getUnitsRecomputed();
  info.to_restore = from.getToRestore();
  info.restored = from.getRestored();
  info.run_again = from.getRunAgain();
  for (const auto shard : from.getShards()) {
    info.shards.push_back({to_string(shard.getName()), shard.getAnswers(), shard.getUnits(),
                           shard.getBytesRam(), shard.getBytesStore()});
  }
  return info;
}

Outcome listable(const std::vector<SessionInfo>& infos, int64_t max_message_bytes) {
  constexpr size_t kMessage = 64;  // words around the list
  constexpr size_t kList = 2;      // around a list in it, an empty one too
  // With its final zero, and the word that leads to it from another segment.
  const auto words = [](const std::string& text) { return text.size() / sizeof(capnp::word) + 2; };
  size_t needed = kMessage;
  for (const SessionInfo& info : infos) {
    needed += capnp::sizeInWords<wire::SessionInfo>() + words(info.name) + words(info.state) +
              words(info.policy) + words(info.template_family) + kList;
    for (const ShardInfo& shard : info.shards)
      needed += capnp::sizeInWords<wire::SessionInfo::Shard>() + words(shard.name);
  }
  if (needed * sizeof(capnp::word) <= static_cast<size_t>(max_message_bytes)) return {};
  return {Code::Overloaded,
          "the list of " + std::to_string(infos.size()) +
              " sessions is longer than the server's longest message: serve with a larger "
              "--max-message than " +
              std::to_string(max_message_bytes) + ", or ask for sessions by name",
          0};
}

void write(const std::vector<SessionInfo>& infos, wire::ListResult::Builder to) {
  auto list = to.initSessions(infos.size());
  for (size_t i = 0; i < infos.size(); ++i) write(infos[i], list[i]);
}

std::vector<SessionInfo> read(capnp::List<wire::SessionInfo>::Reader from) {
  std::vector<SessionInfo> infos;
  infos.reserve(from.size());
  for (const auto info : from) infos.push_back(read(info));
  return infos;
}

Outcome tokenizable(size_t bytes) {
  if (bytes <= kMostTokenizedBytes) return {};
  return {Code::Invalid,
          "a text of " + std::to_string(bytes) + " bytes is too long to be tokenized at once: at " +
              "most " + std::to_string(kMostTokenizedBytes) + " are taken",
          0};
}

void write(const Tokens& tokens, wire::TokenizeResult::Builder to) {
  auto list = to.initTokens(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    list[i].setId(tokens[i].first);
    list[i].setText(to_data(tokens[i].second));
  }
}

Tokens read(capnp::List<wire::TokenizeResult::Token>::Reader from) {
  Tokens tokens;
  tokens.reserve(from.size());
  for (const auto token : from) tokens.emplace_back(token.getId(), to_string(token.getText()));
  return tokens;
}

void write(const ServerInfo& info, wire::ServerInfo::Builder to) {
  to.setVersion(info.version);
  to.setModel(info.model);
  to.setFingerprint(info.fingerprint);
  to.setStore(info.store);
  to.setTrainedContext(info.trained_context);
  to.setParametersBytes(info.parameters_bytes);
  to.setRamBudget(info.ram_budget);
  to.setRamUsed(info.ram_used);
  to.setGpuBudget(info.gpu_budget);
  to.setGpuUsed(info.gpu_used);
  to.setStoreBytes(info.store_bytes);
  to.setSessions(info.sessions);
  to.setActive(info.active);
  to.setThreads(info.threads);
}

ServerInfo read(wire::ServerInfo::Reader from) {
  ServerInfo info;
  info.version = to_string(from.getVersion());
  info.model = to_string(from.getModel());
  info.fingerprint = to_string(from.getFingerprint());
  info.store = to_string(from.getStore());
  info.trained_context = from.getTrainedContext();
  info.parameters_bytes = from.getParametersBytes();
  info.ram_budget = from.getRamBudget();
  info.ram_used = from.getRamUsed();
  info.gpu_budget = from.getGpuBudget();
  info.gpu_used = from.getGpuUsed();
  info.store_bytes = from.getStoreBytes();
  info.sessions = from.getSessions();
  info.active = from.getActive();
  info.threads = from.getThreads();
  return info;
}

void write(const GenerateParams& params, wire::GenerateParams::Builder to) {
  to.setMaxTokens(params.max_tokens);
  to.setTemperature(params.temperature);
  to.setTopP(params.top_p);
  to.setMinP(params.min_p);
  to.setRepetitionPenalty(params.repetition_penalty);
  to.setTopK(params.top_k);
  to.setPenaltyWindow(params.penalty_window);
  to.setSeed(params.seed);
  auto stop = to.initStop(params.stop.size());
  for (size_t i = 0; i < params.stop.size(); ++i) stop.set(i, params.stop[i]);
}

GenerateParams read(wire::GenerateParams::Reader from) {
  GenerateParams params;
  params.max_tokens = from.getMaxTokens();
  params.temperature = from.getTemperature();
  params.top_p = from.getTopP();
  params.min_p = from.getMinP();
  params.repetition_penalty = from.getRepetitionPenalty();
  params.top_k = from.getTopK();
  params.penalty_window = from.getPenaltyWindow();
  params.seed = from.getSeed();
  for (const auto stop : from.getStop()) params.stop.push_back(to_string(stop));
  return params;
}

void write(const TextChunk& chunk, wire::TextSink::ChunkParams::Builder to) {
  to.setText(chunk.text);
  to.setTokens(kj::ArrayPtr<const int32_t>(chunk.tokens.data(), chunk.tokens.size()));
}

TextChunk read(wire::TextSink::ChunkParams::Reader from) {
  TextChunk chunk;
  chunk.text = to_string(from.getText());
  for (const int32_t token : from.getTokens()) chunk.tokens.push_back(token);
  return chunk;
}

void write(const GenerateResult& result, wire::GenerateResult::Builder to) {
  to.setReason(static_cast<wire::FinishReason>(result.reason));
  to.setPromptTokens(result.prompt_tokens);
  to.setGeneratedTokens(result.generated_tokens);
  to.setSecondsToFirst(result.seconds_to_first);
  to.setSeconds(result.seconds);
  to.setUnitsSelected(result.units_selected);
  to.setReadsRam(result.reads_ram);
  to.setReadsStore(result.reads_store);
}

GenerateResult read(wire::GenerateResult::Reader from) {
  GenerateResult result;
  const bool known = from.getReason() <= wire::FinishReason::ERROR;
  result.reason = known ? static_cast<FinishReason>(from.getReason()) : FinishReason::Error;
  result.prompt_tokens = from.getPromptTokens();
  result.generated_tokens = from.getGeneratedTokens();
  result.seconds_to_first = from.getSecondsToFirst();
  result.seconds = from.getSeconds();
  result.units_selected = from.getUnitsSelected();
  result.reads_ram = from.getReadsRam();
  result.reads_store = from.getReadsStore();
  return result;
}

}  // namespace ringtide::protocol

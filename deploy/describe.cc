#include "deploy/describe.h"

#include <ctime>

#include "deploy/output.h"

namespace ringtide::deploy {

Json to_json(const protocol::SessionInfo& info) {
  Json shards = Json::array();
  for (const protocol::ShardInfo& shard : info.shards) {
    shards.push_back({{"name", shard.name},
                      {"answers", shard.answers},
                      {"units", shard.units},
                      {"ram", shard.bytes_ram},
                      {"store", shard.bytes_store}});
  }
  return {
      {"name", info.name},
      {"id", info.id},
      {"created_ms", info.created_ms},
      {"state", info.state},
      {"policy", info.policy},
      {"template", info.template_family},
      {"tokens", info.tokens},
      {"processed", info.processed},
      {"appended_bytes", info.appended_bytes},
      {"units", info.units},
      {"bytes", {{"gpu", info.bytes_gpu}, {"ram", info.bytes_ram}, {"store", info.bytes_store}}},
      {"retrieved",
       {{"units", info.units_selected},
        {"ram", info.reads_ram},
        {"store", info.reads_store},
        {"recomputed", info.units_recomputed}}},
      {"run_again", info.run_again},
      {"shards", shards}};
}

Json to_json(const protocol::GenerateResult& result) {
  const auto later = static_cast<double>(result.generated_tokens - 1);
  return {{"reason", to_string(result.reason)},
          {"prompt_tokens", result.prompt_tokens},
          {"tokens", result.generated_tokens},
          {"seconds_to_first", result.seconds_to_first},
          {"seconds", result.seconds},
          {"tokens_per_second", result.seconds > 0 && later > 0 ? later / result.seconds : 0.0},
          {"retrieved",
           {{"units", result.units_selected},
            {"ram", result.reads_ram},
            {"store", result.reads_store}}}};
}

Json to_json(const ServerFacts& facts) {
  return {{"address", facts.address},
          {"model",
           {{"name", facts.model},
            {"architecture", facts.architecture},
            {"quantisation", facts.quantisation},
            {"fingerprint", facts.fingerprint},
            {"path", facts.path},
            {"layers", facts.layers},
            {"trained_context", facts.trained_context},
            {"weight_bytes", facts.weight_bytes}}},
          {"threads", facts.threads},
          {"device", facts.gpu.empty() ? "cpu" : facts.gpu},
          {"budget", {{"gpu", facts.gpu_budget}, {"ram", facts.ram_budget}, {"store", facts.store_free_bytes}}},
          {"store", facts.store},
          {"shards", facts.shards},
          {"shard_address", facts.shard_address.empty() ? Json() : Json(facts.shard_address)}};
}

std::string to_string(protocol::FinishReason reason) {
  using protocol::FinishReason;
  switch (reason) {
    case FinishReason::EndOfTurn:
      return "end_of_turn";
    case FinishReason::MaxTokens:
      return "max_tokens";
    case FinishReason::StopText:
      return "stop_text";
    case FinishReason::Cancelled:
      return "cancelled";
    case FinishReason::Error:
      break;
  }
  return "error";
}

std::string show_time(int64_t unix_ms) {
  const std::time_t seconds = unix_ms / 1000;
  std::tm parts{};
  char text[32];
  if (localtime_r(&seconds, &parts) == nullptr) return "-";
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts)};
}

std::string to_line(const Json& object) {
  return object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void print_line(const Json& object) { print(to_line(object)); }

}  // namespace ringtide::deploy

#include "deploy/summary.h"

#include <fmt/core.h>

#include "deploy/format.h"

namespace ringtide::deploy {

std::string show(const Summary& s) {
  std::vector<std::vector<std::string>> rows;
  rows.push_back(
      {"session",
       fmt::format("{} (id {}), {}, {} tokens, {} units", s.session.name, s.session.id,
                   s.session.policy, show_count(s.session.tokens), show_count(s.session.units))});
  if (s.ingested > 0) {
    rows.push_back({"ingest", fmt::format("{} tokens in {}: {}", show_count(s.ingested),
                                          show_seconds(s.ingest_seconds),
                                          show_rate(s.ingested, s.ingest_seconds))});
  }
  if (s.generation) {
    const protocol::GenerateResult& g = *s.generation;
    rows.push_back(
        {"answer",
         fmt::format("{} tokens: {}; first after {} ({} prompt tokens); {}", g.generated_tokens,
                     show_rate(g.generated_tokens - 1, g.seconds), show_seconds(g.seconds_to_first),
                     g.prompt_tokens, to_string(g.reason))});
    rows.push_back(
        {"retrieved", fmt::format("{} units for the answer: {} from RAM, {} from RocksDB",
                                  show_count(g.units_selected), show_count(g.reads_ram),
                                  show_count(g.reads_store))});
  }
  rows.push_back(
      {"bytes", fmt::format("GPU {}, RAM {}, RocksDB {}", show_bytes(s.session.bytes_gpu),
                            show_bytes(s.session.bytes_ram), show_bytes(s.session.bytes_store))});
  rows.push_back({"resume", s.resume});
  return show_table(rows);
}

Json to_json(const Summary& s) {
  const double rate = s.ingest_seconds > 0 ? static_cast<double>(s.ingested) / s.ingest_seconds : 0;
  return {{"session", to_json(s.session)},
          {"ingest",
           {{"tokens", s.ingested}, {"seconds", s.ingest_seconds}, {"tokens_per_second", rate}}},
          {"generation", s.generation ? to_json(*s.generation) : Json(nullptr)},
          {"resume", s.resume}};
}

}  // namespace ringtide::deploy

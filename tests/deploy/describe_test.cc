#include "deploy/describe.h"

#include <gtest/gtest.h>

#include "deploy/summary.h"

namespace ringtide::deploy {
namespace {

protocol::SessionInfo some_session() {
  protocol::SessionInfo info;
  info.name = "notes";
  info.id = 7;
  info.policy = "infllm";
  info.tokens = 1234;
  info.appended_bytes = 5000;
  info.units = 8;
  info.run_again = 300;
  info.bytes_ram = 1 << 20;
  info.bytes_store = 3 << 20;
  return info;
}

TEST(Describe, SessionHasTheDocumentedFields) {
  const Json json = to_json(some_session());
  EXPECT_EQ(json["name"], "notes");
  EXPECT_EQ(json["id"], 7);
  EXPECT_EQ(json["tokens"], 1234);
  EXPECT_EQ(json["appended_bytes"], 5000);
  EXPECT_EQ(json["policy"], "infllm");
  EXPECT_EQ(json["units"], 8);
  EXPECT_EQ(json["run_again"], 300);
  EXPECT_EQ(json["bytes"], (Json{{"gpu", 0}, {"ram", 1 << 20}, {"store", 3 << 20}}));
  EXPECT_EQ(json["shards"], Json::array());
}

TEST(Describe, ShardsOfARingSayWhatTheyHold) {
  protocol::SessionInfo info = some_session();
  info.shards = {{"the leader", true, 3, 400, 5000}, {"shard 1", false, 0, 0, 0}};
  EXPECT_EQ(to_json(info)["shards"],
            (Json{{{"name", "the leader"}, {"answers", true}, {"units", 3}, {"ram", 400}, {"store", 5000}},
                  {{"name", "shard 1"}, {"answers", false}, {"units", 0}, {"ram", 0}, {"store", 0}}}));
}

TEST(Describe, RateCountsTokensAfterTheFirst) {
  protocol::GenerateResult result;
  result.generated_tokens = 11;
  result.seconds = 2;
  EXPECT_DOUBLE_EQ(to_json(result)["tokens_per_second"], 5);
  result.generated_tokens = 0;
  EXPECT_DOUBLE_EQ(to_json(result)["tokens_per_second"], 0);
}

TEST(Describe, BytesThatAreNoTextDoNotBreakALine) {
  ::testing::internal::CaptureStdout();
  print_line({{"text", "a\xff\nb"}});
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "{\"text\":\"a\xEF\xBF\xBD\\nb\"}\n");
}

TEST(Summary, WithoutAnswerSaysNothingOfOne) {
  Summary summary;
  summary.session = some_session();
  summary.resume = "ringtide ask --session 'notes' --prompt TEXT";
  const std::string text = show(summary);
  EXPECT_EQ(text.find("answer"), std::string::npos);
  EXPECT_EQ(text.find("ingest"), std::string::npos);
  EXPECT_NE(text.find("notes (id 7)"), std::string::npos);
  EXPECT_NE(text.find(summary.resume), std::string::npos);
  EXPECT_TRUE(to_json(summary)["generation"].is_null());
}

TEST(Summary, TellsIngestAnswerAndTiers) {
  Summary summary;
  summary.session = some_session();
  summary.ingested = 1000;
  summary.ingest_seconds = 2;
  summary.generation.emplace();
  summary.generation->reason = protocol::FinishReason::MaxTokens;
  summary.generation->generated_tokens = 21;
  summary.generation->seconds = 1;
  summary.generation->units_selected = 480;
  summary.generation->reads_store = 30;
  const std::string text = show(summary);
  for (const char* part : {"500.0 tokens/s", "20.0 tokens/s", "max_tokens", "480 units",
                           "30 from RocksDB", "RAM 1.0 MiB", "RocksDB 3.0 MiB"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  }
}

}  // namespace
}  // namespace ringtide::deploy

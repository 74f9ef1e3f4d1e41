#include "actors/open_request.h"

#include <gtest/gtest.h>

#include "actors/session_log.h"
#include "tests/support/fake_tokenizer.h"

namespace ringtide::actors {
namespace {

protocol::OpenRequest named(const std::string& name) {
  protocol::OpenRequest request;
  request.name = name;
  return request;
}

TEST(OpenRequestTest, NamesArePrintableUtf8) {
  for (const std::string good : {"a", "my session", "größe", "日記", "🌊"}) {
    EXPECT_EQ(invalid(named(good)), "") << good;
  }
  for (const std::string bad : {"", "\n", "a\x7f", "\xc2\x85", "\xff", "\xc3", "\xed\xa0\x80",
                                "\xc0\xaf", "\xf5\x80\x80\x80"}) {
    EXPECT_NE(invalid(named(bad)), "") << bad;
  }
  EXPECT_EQ(invalid(named(std::string(200, 'x'))), "");
  EXPECT_NE(invalid(named(std::string(201, 'x'))), "");
}

TEST(OpenRequestTest, WishesMustNotContradict) {
  protocol::OpenRequest request = named("a");
  request.must_create = request.must_exist = true;
  EXPECT_NE(invalid(request), "");
  request = {};
  request.id = 7;
  EXPECT_EQ(invalid(request), "");
  request.must_create = true;
  EXPECT_NE(invalid(request), "");
}

TEST(OpenRequestTest, PolicyIsAskedThenTheServersThenItsOwn) {
  const protocol::Policy fallback{
      .name = "streaming", .window = 512, .sinks = 0, .block = 256, .vote = ""};
  const auto plain = policy_of({}, fallback);
  EXPECT_EQ(plain.kind, model::PolicyKind::Streaming);
  EXPECT_EQ(plain.window, 512);
  EXPECT_EQ(plain.sinks, 0);
  EXPECT_EQ(plain.unit, model::PolicyConfig{}.unit);
  const auto asked =
      policy_of({.name = "infllm", .window = 1024, .sinks = 64, .vote = "sum"}, fallback);
  EXPECT_EQ(asked.kind, model::PolicyKind::InfLlm);
  EXPECT_EQ(asked.window, 1024);
  EXPECT_EQ(asked.sinks, 64);
  EXPECT_EQ(asked.block, 256);
  EXPECT_EQ(asked.vote, model::HeadVote::Sum);
  EXPECT_THROW(policy_of({.name = "nonsense", .vote = ""}, {}), model::ModelError);
  EXPECT_THROW(policy_of({.name = "", .vote = "nonsense"}, {}), model::ModelError);
}

TEST(OpenRequestTest, APolicyThatTheEngineDoesNotServeIsRefused) {
  Facts facts;
  facts.tokenizer = std::make_shared<const testing::FakeTokenizer>();
  facts.refusal = [](const model::PolicyConfig& policy) {
    return policy.kind == model::PolicyKind::Exact ? "" : "only exact";
  };
  auto request = named("a");
  EXPECT_THROW(compose_opened(facts, request), model::ModelError);
  request.policy.name = "exact";
  EXPECT_EQ(compose_opened(facts, request).template_family, "raw");
}

TEST(OpenRequestTest, ANewSessionRecordsWhatWasChosen) {
  Facts facts;
  facts.tokenizer = std::make_shared<const testing::FakeTokenizer>();
  facts.fingerprint = "f";
  facts.chat_template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}";
  auto request = named("a");
  auto opened = compose_opened(facts, request);
  EXPECT_EQ(opened.template_family, "model");
  EXPECT_EQ(opened.model, "f");
  request.system = "be brief";
  EXPECT_EQ(compose_opened(facts, request).system, "be brief");
  facts.chat_template +=
      "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}";
  EXPECT_THROW(compose_opened(facts, request), model::ModelError) << "a system prompt";
  request.template_family = "raw";
  EXPECT_EQ(compose_opened(facts, request).template_family, "raw");
  request.template_family = "nonsense";
  EXPECT_THROW(compose_opened(facts, request), model::ModelError);
}

}  // namespace
}  // namespace ringtide::actors

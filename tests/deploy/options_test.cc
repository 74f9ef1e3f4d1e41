#include "deploy/options.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>
#include <vector>

namespace ringtide::deploy {
namespace {

class Options : public ::testing::Test {
 protected:
  Options() {
    app_.set_config("--config");
    command_ = app_.add_subcommand("serve")->fallthrough();
    add_engine_options(command_, server_);
    add_session_options(command_, session_);
    add_sampling_options(command_, params_);
  }
  ~Options() override {
    for (const char* name : {"RINGTIDE_THREADS", "RINGTIDE_RAM_BUDGET"}) unsetenv(name);
  }
  void parse(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "serve");
    std::reverse(arguments.begin(), arguments.end());
    app_.parse(arguments);
  }

  CLI::App app_;
  CLI::App* command_;
  ServerOptions server_;
  SessionOptions session_;
  protocol::GenerateParams params_;
};

TEST_F(Options, EnvironmentNamesFollowTheFlag) {
  EXPECT_EQ(environment_name("--ram-budget"), "RINGTIDE_RAM_BUDGET");
}

TEST_F(Options, BytesTakeSuffixes) {
  parse({"--ram-budget", "3G"});
  EXPECT_EQ(server_.ram_budget, int64_t{3} << 30);
}

TEST_F(Options, BytesWithoutSuffixAreBytes) {
  parse({"--ram-budget", "1000"});
  EXPECT_EQ(server_.ram_budget, 1000);
}

TEST_F(Options, EnvironmentSetsWhatTheCommandLineDoesNot) {
  setenv("RINGTIDE_THREADS", "3", 1);
  setenv("RINGTIDE_RAM_BUDGET", "2M", 1);
  parse({"--threads", "5"});
  EXPECT_EQ(server_.threads, 5);
  EXPECT_EQ(server_.ram_budget, 2 << 20);
}

TEST_F(Options, FileComesBetweenCommandLineAndEnvironment) {
  const std::string path = ::testing::TempDir() + "ringtide_options_test.ini";
  std::ofstream(path) << "[serve]\nthreads = 7\nram-budget = \"4K\"\n";
  setenv("RINGTIDE_RAM_BUDGET", "2M", 1);
  parse({"--config", path, "--threads", "5"});
  EXPECT_EQ(server_.threads, 5);
  EXPECT_EQ(server_.ram_budget, 4096);
}

TEST_F(Options, PolicyLeavesToTheServerWhatIsNotGiven) {
  parse({"--window", "64"});
  const protocol::OpenRequest request = open_request(session_);
  EXPECT_EQ(request.policy.name, "");
  EXPECT_EQ(request.policy.window, 64);
  EXPECT_EQ(request.policy.sinks, -1);
  EXPECT_EQ(request.policy.unit, 0);
}

TEST_F(Options, EmptySystemPromptIsAChoice) {
  parse({});
  EXPECT_FALSE(open_request(session_).system.has_value());
  parse({"--system", ""});
  EXPECT_EQ(open_request(session_).system, "");
}

TEST_F(Options, SeveralStopTexts) {
  parse({"--stop", "a b", "--stop", "\n"});
  EXPECT_EQ(params_.stop, (std::vector<std::string>{"a b", "\n"}));
}

TEST_F(Options, ValuesOutsideTheirRangeAreRefused) {
  EXPECT_THROW(parse({"--top-p", "1.5"}), CLI::ValidationError);
  EXPECT_THROW(parse({"--temperature", "-1"}), CLI::ValidationError);
  EXPECT_THROW(parse({"--policy", "best"}), CLI::ValidationError);
}

TEST_F(Options, BytesThatAreNoneAreRefused) {
  for (const char* text : {"-5", "0", "", "K", "1.5G", "5Q", "5GG", "99999999999G", "1 G"}) {
    EXPECT_THROW(parse({"--ram-budget", text}), CLI::ValidationError) << text;
  }
  parse({"--ram-budget", "64MiB"});
  EXPECT_EQ(server_.ram_budget, 64 << 20);
}

TEST_F(Options, SeedsAreRefusedRatherThanClamped) {
  parse({"--seed", "18446744073709551615"});
  EXPECT_EQ(params_.seed, ~uint64_t{0});
  for (const char* text : {"18446744073709551616", "-1", "1e3", ""}) {
    EXPECT_THROW(parse({"--seed", text}), CLI::ParseError) << text;
  }
}

TEST_F(Options, ASessionKeepsWhatItWasMadeWith) {
  protocol::SessionInfo found;
  found.name = "notes";
  found.policy = "infllm";
  found.template_family = "chatml";
  parse({"--policy", "infllm", "--template", "auto"});
  EXPECT_EQ(not_applied(session_, found), "");
  parse({"--policy", "exact", "--template", "raw", "--system", ""});
  EXPECT_EQ(not_applied(session_, found),
            "session 'notes' keeps what it was made with (policy infllm, template chatml): not "
            "applied: --policy, --template, --system");
}

}  // namespace
}  // namespace ringtide::deploy

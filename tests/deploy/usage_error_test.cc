#include "deploy/usage_error.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>

#include "deploy/options.h"

namespace ringtide::deploy {
namespace {

class UsageError : public ::testing::Test {
 protected:
  UsageError() {
    app_.name("it");
    app_.set_config("--config");
    app_.allow_config_extras(CLI::config_extras_mode::error);
    app_.require_subcommand(1);
    CLI::App* ask = app_.add_subcommand("ask")->fallthrough();
    add_setting(ask, "--count", count_, "")->check(CLI::Range(0, 9));
    add_setting(ask, "--text", text_, "")->required();
    add_setting(ask, "--file", files_, "")->allow_extra_args(false);
    add_switch(ask, "--json", json_, "");
    add_setting(app_.add_subcommand("list"), "--count", list_count_, "");
    read_own_environment(app_);
  }
  ~UsageError() override {
    for (const char* name : {"RINGTIDE_COUNT", "RINGTIDE_JSON"}) unsetenv(name);
  }

  // What is said of a command line; empty: nothing is wrong.
  std::string said(std::vector<std::string> arguments) {
    arguments_ = arguments;
    std::reverse(arguments.begin(), arguments.end());
    try {
      app_.parse(arguments);
    } catch (const CLI::ParseError& error) {
      return explain(error, app_, arguments_);
    }
    return "";
  }
  std::string file(const std::string& content) {
    const std::string path = ::testing::TempDir() + "ringtide_usage_error_test.ini";
    std::ofstream(path) << content;
    return path;
  }

  CLI::App app_;
  std::vector<std::string> arguments_, files_;
  int count_ = 0;
  std::string text_, list_count_;
  bool json_ = false;
};

TEST_F(UsageError, NamesTheCommandsWhereOneIsMissing) {
  EXPECT_EQ(said({}), "which command? 'it' is followed by one of: ask, list");
}

TEST_F(UsageError, NamesTheFlag) {
  EXPECT_EQ(said({"ask", "--count", "10", "--text", "x"}), "--count: Value 10 not in range 0 to 9");
  EXPECT_EQ(said({"ask"}), "--text is required");
  EXPECT_EQ(said({"ask", "--txet", "x"}), "unknown command or flag: --txet");
  EXPECT_EQ(where_to_look(app_), "'it ask --help' tells what there is");
}

TEST_F(UsageError, TellsAMissingValueFromTooMany) {
  EXPECT_EQ(said({"ask", "--text"}), "--text: its value is missing");
  EXPECT_EQ(said({"ask", "--text", "x", "--file"}), "--file: its value is missing");
  EXPECT_EQ(said({"ask", "--text", "a", "--text", "b"}), "--text: give it once, with one value");
}

TEST_F(UsageError, NamesTheEnvironmentVariable) {
  setenv("RINGTIDE_COUNT", "10", 1);
  EXPECT_EQ(said({"ask", "--text", "x"}), "RINGTIDE_COUNT: Value 10 not in range 0 to 9");
  EXPECT_EQ(said({"ask", "--text", "x", "--count=11"}), "--count: Value 11 not in range 0 to 9");
}

TEST_F(UsageError, NamesTheFile) {
  const std::string path = file("[ask]\ncount = 10\n");
  EXPECT_EQ(said({"--config", path, "ask", "--text", "x"}),
            path + ": count: Value 10 not in range 0 to 9");
}

TEST_F(UsageError, NamesASwitchThatIsNeitherOnNorOff) {
  setenv("RINGTIDE_JSON", "maybe", 1);
  EXPECT_EQ(said({"ask", "--text", "x"}), "RINGTIDE_JSON: 'maybe' is no value that it takes");
  EXPECT_FALSE(asked_for_json(app_, arguments_));
}

TEST_F(UsageError, TheEnvironmentOfAnotherCommandIsNotRead) {
  setenv("RINGTIDE_COUNT", "many", 1);
  EXPECT_EQ(said({"list"}), "");
  EXPECT_EQ(list_count_, "many");
}

TEST_F(UsageError, IsAnObjectWhereverThatWasAskedFor) {
  said({"ask", "--count", "10", "--text", "x"});
  EXPECT_FALSE(asked_for_json(app_, arguments_));
  said({"ask", "--json", "--count", "10", "--text", "x"});
  EXPECT_TRUE(asked_for_json(app_, arguments_));
  setenv("RINGTIDE_JSON", "1", 1);
  said({"ask", "--count", "10", "--text", "x"});
  EXPECT_TRUE(asked_for_json(app_, arguments_));
}

}  // namespace
}  // namespace ringtide::deploy

#include "deploy/help.h"

#include <gtest/gtest.h>

#include <sstream>

namespace ringtide::deploy {
namespace {

class Help : public ::testing::Test {
 protected:
  Help() { app_.formatter(std::make_shared<HelpFormatter>()); }

  CLI::App app_{"A program that does this and that, and whose description is longer than one line "
                "of any terminal.",
                "it"};
  std::string name_;
};

TEST_F(Help, LinesFitIntoEightyColumns) {
  app_.add_option("--name", name_, std::string(300, 'x').replace(100, 1, " ").replace(150, 1, " "));
  app_.add_option("--other", name_, "Words that go on and on until there is no room for more of them")
      ->option_text("TEXT");
  app_.footer("Words that go on and on until there is no room for any more of them in a line.\nAnd.");
  std::istringstream help(app_.help());
  for (std::string line; std::getline(help, line);) {
    if (line.find("xxx") != std::string::npos) continue;
    EXPECT_LE(line.size(), 80u) << line;
  }
  EXPECT_NE(app_.help().find("\nAnd.\n"), std::string::npos) << "line breaks stay";
}

TEST_F(Help, TellsWhatMustBeGiven) {
  app_.add_option("--name", name_, "Its name")->required()->option_text("NAME");
  EXPECT_NE(app_.help().find("  --name NAME                 Its name (required)\n"),
            std::string::npos)
      << app_.help();
}

TEST_F(Help, ALongFlagHasALineOfItsOwn) {
  app_.add_option("--a-name-that-is-rather-long", name_, "Its name")->option_text("NAME");
  EXPECT_NE(app_.help().find("  --a-name-that-is-rather-long NAME\n" + std::string(30, ' ') +
                             "Its name\n"),
            std::string::npos)
      << app_.help();
}

TEST_F(Help, LeavesOutWhatTheLibraryWouldAdd) {
  bool on = false;
  auto* one = app_.add_flag("--one", on, "This")->envname("IT_ONE");
  app_.add_flag("--two", on, "That")->excludes(one);
  app_.add_option("TEXT", name_, "The text");
  const std::string help = app_.help();
  for (const char* word : {"Env:", "Excludes", "TEXT TEXT"}) {
    EXPECT_EQ(help.find(word), std::string::npos) << help;
  }
}

}  // namespace
}  // namespace ringtide::deploy

#include "kernels/instruction_set.h"

#include <gtest/gtest.h>

namespace ringtide::kernels {
namespace {

TEST(InstructionSet, AnyOfTheProcessorsCanBeChosenInAnyOrder) {
  const std::vector<std::string> all = instruction_sets();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(instruction_set(), all.front());
  for (int round = 0; round < 2; ++round) {
    for (const std::string& name : all) {
      EXPECT_TRUE(use_instruction_set(name));
      EXPECT_EQ(instruction_set(), name);
      EXPECT_EQ(instruction_sets(), all);
    }
  }
  EXPECT_TRUE(use_instruction_set(""));
  EXPECT_EQ(instruction_set(), all.front());
}

TEST(InstructionSet, OneThatIsNotThereChangesNothing) {
  const std::string last = instruction_sets().back();
  ASSERT_TRUE(use_instruction_set(last));
  EXPECT_FALSE(use_instruction_set("ABACUS"));
  EXPECT_EQ(instruction_set(), last);
  use_instruction_set("");
}

}  // namespace
}  // namespace ringtide::kernels

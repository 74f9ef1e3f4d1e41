// Who is let in, and what becomes of rings.
#include "actors/cluster/membership.h"

#include <gtest/gtest.h>

namespace ringtide::actors::cluster {
namespace {

const Terms kOurs = {{"protocol", "1"}, {"model", "abc"}, {"keys and values", "f16"}};

class MembershipTest : public ::testing::Test {
 protected:
  MemberId join(const std::string& name) {
    return members.join(kOurs, {.name = name, .host = "127.0.0.1", .port = 1}).id;
  }
  void link_all() {
    for (const Member& m : std::vector(members.shards()))
      members.linked(members.generation(), m.id);
  }
  std::string names() const {
    std::string all;
    for (const Member& m : members.shards()) all += m.name;
    return all;
  }
  Membership members{kOurs, 1000};
};

TEST_F(MembershipTest, AMismatchIsRefusedByName) {
  const auto refused = members.join(
      {{"protocol", "1"}, {"model", "xyz"}, {"keys and values", "f32"}}, {0, "stranger", "", 0});
  EXPECT_EQ(refused.id, 0u);
  EXPECT_EQ(refused.refusal,
            "model is xyz, the cluster's is abc; keys and values is f32, the cluster's is f16");
  EXPECT_TRUE(members.members().empty());
}

TEST_F(MembershipTest, ATermThatOnlyOneSideKnowsDiffers) {
  EXPECT_EQ(refusal({{"a", "1"}}, {}), "a is not said, the cluster's is 1");
  EXPECT_EQ(refusal({}, {{"a", "1"}}), "a is 1, the cluster's is not said");
  EXPECT_EQ(refusal(kOurs, kOurs), "");
}

TEST_F(MembershipTest, TheLeaderAloneIsARingThatStands) {
  members.form();
  EXPECT_EQ(members.stage(), Membership::Stage::Standing);
  EXPECT_EQ(members.why_not(), "");
}

TEST_F(MembershipTest, ARingStandsWhenAllAreLinked) {
  const MemberId a = join("a"), b = join("b");
  members.form();
  EXPECT_EQ(members.generation(), 1001u);
  EXPECT_EQ(names(), "ab");
  members.linked(1001, a);
  members.linked(1001, a);
  members.linked(1000, b);
  members.linked(1001, 77);
  EXPECT_EQ(members.stage(), Membership::Stage::Linking);
  members.linked(1001, b);
  EXPECT_EQ(members.stage(), Membership::Stage::Standing);
}

TEST_F(MembershipTest, WhoIsSilentIsAwaitedNotWhoWaitsForIt) {
  const MemberId a = join("a"), b = join("b");
  const auto awaited = [&] {
    std::string all;
    for (const Member& m : members.awaited()) all += m.name;
    return all;
  };
  members.form();
  EXPECT_EQ(awaited(), "ab");
  members.answered(1001, b);
  EXPECT_EQ(awaited(), "a");
  members.answered(1001, a);
  EXPECT_EQ(awaited(), "ab") << "both have heard, neither reaches the other";
  members.linked(1001, a);
  EXPECT_EQ(awaited(), "b");
  members.linked(1001, b);
  EXPECT_EQ(awaited(), "");
}

TEST_F(MembershipTest, AMemberThatLeavesEndsItsRingAndTheNextIsWithoutIt) {
  const MemberId a = join("a");
  join("b");
  members.form();
  link_all();
  members.leave(a, "killed");
  EXPECT_EQ(members.stage(), Membership::Stage::Over);
  EXPECT_EQ(members.why_not(), "a is lost: killed");
  members.leave(a, "again");
  members.end(members.generation(), "later");
  EXPECT_EQ(members.why_not(), "a is lost: killed");
  members.form();
  EXPECT_EQ(names(), "b");
  EXPECT_EQ(members.generation(), 1002u);
}

TEST_F(MembershipTest, WhoJoinsARingThatStandsIsOfTheNext) {
  join("a");
  members.form();
  link_all();
  const MemberId b = join("b");
  join("c");
  EXPECT_EQ(members.stage(), Membership::Stage::Standing);
  EXPECT_EQ(members.why_not(), "b, c joined");
  members.leave(b, "it left");
  EXPECT_EQ(members.stage(), Membership::Stage::Standing);
  members.form();
  EXPECT_EQ(names(), "ac");
  EXPECT_EQ(members.why_not(), "");
}

TEST_F(MembershipTest, WhatIsSaidOfAnEarlierRingDoesNotCount) {
  const MemberId a = join("a");
  members.form();
  members.form();
  members.linked(1001, a);
  members.end(1001, "old");
  EXPECT_EQ(members.stage(), Membership::Stage::Linking);
  members.linked(1002, a);
  EXPECT_EQ(members.stage(), Membership::Stage::Standing);
  members.end(1002, "broke");
  EXPECT_EQ(members.why_not(), "broke");
  members.linked(1002, a);
  EXPECT_EQ(members.stage(), Membership::Stage::Over);
}

TEST_F(MembershipTest, WhoIsSetAsideIsLeftOutUntilItAnswers) {
  const MemberId a = join("a"), b = join("b");
  members.form();
  EXPECT_TRUE(members.set_aside(a));
  EXPECT_FALSE(members.set_aside(a));
  EXPECT_FALSE(members.set_aside(77));
  EXPECT_EQ(members.present(), 1u);
  EXPECT_EQ(members.members().size(), 2u);
  members.form();
  EXPECT_EQ(names(), "b");
  EXPECT_FALSE(members.answered(1002, b));
  members.linked(1002, b);
  EXPECT_EQ(members.stage(), Membership::Stage::Standing);
  EXPECT_TRUE(members.answered(1001, a)) << "to a ring long over";
  EXPECT_EQ(members.why_not(), "a joined");
  EXPECT_EQ(members.stage(), Membership::Stage::Standing);
  members.form();
  EXPECT_EQ(names(), "ab");
  members.set_aside(a);
  members.leave(a, "silent");
  EXPECT_EQ(members.present(), 1u);
}

TEST_F(MembershipTest, OneComesBackAsAnother) {
  const MemberId a = join("a");
  members.leave(a, "hung");
  EXPECT_NE(join("a"), a);
  EXPECT_EQ(members.members().size(), 1u);
}

}  // namespace
}  // namespace ringtide::actors::cluster

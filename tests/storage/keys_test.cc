#include "storage/keys.h"

#include <gtest/gtest.h>

namespace ringtide::storage {
namespace {

TEST(Keys, OrderIsThatOfTheNumbers) {
  EXPECT_LT(keys::log(1, 255), keys::log(1, 256));
  EXPECT_LT(keys::log(1, ~0ull), keys::log(2, 0));
  EXPECT_LT(keys::part(255, 7), keys::part(256, 0));
  EXPECT_LT(keys::owned(1, 9), keys::owned(1, 10));
}

TEST(Keys, ComeBackAsTheyWere) {
  EXPECT_EQ(keys::parse_session(keys::session(~0ull)), ~0ull);
  EXPECT_EQ(keys::parse_session(keys::doomed(7)), 7u);
  EXPECT_EQ(keys::parse_log_sequence(keys::log(3, 1ull << 40)), 1ull << 40);
  EXPECT_EQ(keys::parse_unit(keys::unit({1, 2})), (ContentKey{1, 2}));
  EXPECT_EQ(keys::parse_owned_number(keys::owned(1, 77)), 77);
  EXPECT_EQ(keys::parse_part_unit(keys::part(9, 3)), 9u);
  const auto owner = keys::parse_owner(keys::owner({.key = {5, 6}, .session = 7, .number = 8}));
  ASSERT_TRUE(owner);
  EXPECT_EQ(owner->key, (ContentKey{5, 6}));
  EXPECT_EQ(owner->session, 7u);
  EXPECT_EQ(owner->number, 8);
}

TEST(Keys, OtherFormsAreRefused) {
  EXPECT_FALSE(keys::parse_session(keys::log(1, 2)));
  EXPECT_FALSE(keys::parse_session("s"));
  EXPECT_FALSE(keys::parse_log_sequence(keys::owned(1, 2)));
  EXPECT_FALSE(keys::parse_unit(""));
  EXPECT_FALSE(keys::parse_owner(keys::unit({1, 2})));
  EXPECT_FALSE(keys::parse_part_unit(keys::part(1, 2) + "x"));
}

TEST(Keys, RangesHoldTheirOwnKeysOnly) {
  for (const uint64_t id : {0ull, 1ull, 255ull, 256ull, ~0ull}) {
    const auto range = keys::log_of(id);
    EXPECT_LE(range.first, keys::log(id, 0)) << id;
    EXPECT_GT(range.last, keys::log(id, ~0ull)) << id;
    EXPECT_TRUE(id == ~0ull || range.last <= keys::log(id + 1, 0)) << id;
    EXPECT_TRUE(id == 0 || range.first > keys::log(id - 1, ~0ull)) << id;
  }
  const auto parts = keys::parts_of(4, 6);
  EXPECT_GT(parts.first, keys::part(3, ~0u));
  EXPECT_GT(parts.last, keys::part(6, ~0u));
  EXPECT_LE(parts.last, keys::part(7, 0));
}

}  // namespace
}  // namespace ringtide::storage

#include "deploy/format.h"

#include <gtest/gtest.h>

namespace ringtide::deploy {
namespace {

TEST(Format, BytesUseTheLargestUnitThatKeepsThemShort) {
  EXPECT_EQ(show_bytes(0), "0 B");
  EXPECT_EQ(show_bytes(1023), "1023 B");
  EXPECT_EQ(show_bytes(1536), "1.5 KiB");
  EXPECT_EQ(show_bytes((int64_t{1} << 20) - 1), "1.0 MiB");
  EXPECT_EQ(show_bytes(int64_t{5} << 30), "5.0 GiB");
  EXPECT_EQ(show_bytes(INT64_MAX), "8192.0 PiB");
}

TEST(Format, CountsAreGroupedByThousands) {
  EXPECT_EQ(show_count(0), "0");
  EXPECT_EQ(show_count(999), "999");
  EXPECT_EQ(show_count(1000), "1,000");
  EXPECT_EQ(show_count(1234567), "1,234,567");
  EXPECT_EQ(show_count(-1234), "-1,234");
}

TEST(Format, TimesAreShownAsPrecisePlacesAllow) {
  EXPECT_EQ(show_seconds(0.123), "0.12 s");
  EXPECT_EQ(show_seconds(12.34), "12.3 s");
  EXPECT_EQ(show_seconds(125), "2 min 05 s");
  EXPECT_EQ(show_seconds(7260), "2 h 01 min");
}

TEST(Format, RateWithoutTimeIsNotANumber) {
  EXPECT_EQ(show_rate(10, 0), "-");
  EXPECT_EQ(show_rate(10, 4), "2.5 tokens/s");
}

TEST(Format, TableAlignsNumbersRightAndTextLeft) {
  EXPECT_EQ(show_table({{"NAME", "TOKENS"}, {"a", "5"}, {"long name", "1,000"}}),
            "NAME       TOKENS\n"
            "a               5\n"
            "long name   1,000\n");
}

TEST(Format, TableCountsCharactersNotBytes) {
  EXPECT_EQ(show_table({{"é", "x"}, {"ab", "y"}}), "é   x\nab  y\n");
}

TEST(Format, WordsForAShell) {
  EXPECT_EQ(quote_for_shell("/tmp/store-1.2"), "/tmp/store-1.2");
  EXPECT_EQ(quote_for_shell(""), "''");
  EXPECT_EQ(quote_for_shell("a b"), "'a b'");
  EXPECT_EQ(quote_for_shell("it's $HOME"), "'it'\\''s $HOME'");
  EXPECT_EQ(quote_for_shell("gr\u00fcn"), "'gr\u00fcn'");
}

}  // namespace
}  // namespace ringtide::deploy

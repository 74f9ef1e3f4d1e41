#include "storage/records.h"

#include <gtest/gtest.h>

#include <random>

#include "storage/checksum.h"

namespace ringtide::storage {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::vector<LogRecord> samples() {
  Opened opened;
  opened.policy = {.kind = 2,
                   .vote = 1,
                   .true_positions = 1,
                   .window = 4096,
                   .sinks = -1,
                   .unit = 128,
                   .block = 64,
                   .select = 16,
                   .representatives = 4,
                   .probe = 7};
  opened.model = "smol";
  opened.template_family = "chatml";
  opened.system = std::string("a\0b", 3);
  Began began;
  began.tokens = {1, -2, 2147483647};
  began.temperature = 0.7f;
  began.min_p = 0.05f;
  began.top_k = 40;
  began.seed = ~0ull;
  began.max_tokens = -1;
  began.stop = {"", "</s>", "\n\n"};
  return {opened,
          Opened{},
          Appended{.text = "caf\xc3\xa9", .consumed = 3, .tokens = {5, 6}, .opens_turn = 1},
          Appended{},
          began,
          Began{},
          Generated{.tokens = {7}},
          Generated{},
          Ended{.reason = 3, .tokens = {0}},
          Ended{}};
}

TEST(Records, EveryTypeComesBackAsItWas) {
  for (const LogRecord& record : samples()) {
    auto back = decode(bytes_of(encode(record)));
    ASSERT_TRUE(back.ok()) << back.status().message();
    EXPECT_EQ(back.value(), record);
  }
}

TEST(Records, LargeRecordsComeBack) {
  Appended large{.text = std::string(8 << 20, 'x'), .consumed = 1, .tokens = {}, .opens_turn = 0};
  large.tokens.assign(1 << 20, 49151);
  auto back = decode(bytes_of(encode(large)));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back.value(), LogRecord(large));
}

TEST(Records, TruncationAtEveryLengthIsCorrupt) {
  for (const LogRecord& record : samples()) {
    const std::string bytes = encode(record);
    for (size_t size = 0; size < bytes.size(); ++size)
      EXPECT_EQ(decode(bytes_of(bytes.substr(0, size))).status().code(), Code::Corrupt) << size;
    EXPECT_EQ(decode(bytes_of(bytes + '\0')).status().code(), Code::Corrupt);
  }
}

TEST(Records, EveryFlippedBitIsCorrupt) {
  for (const LogRecord& record : samples()) {
    std::string bytes = encode(record);
    for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
      EXPECT_EQ(decode(bytes_of(bytes)).status().code(), Code::Corrupt) << bit;
      bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
    }
  }
}

// What a build of another version, or a wrong one, could have written: the checksum fits.
std::string sealed(std::string body) { return seal("record", std::move(body)); }
std::string body_of(const LogRecord& record) {
  const std::string bytes = encode(record);
  return bytes.substr(0, bytes.size() - kChecksumBytes);
}

TEST(Records, LaterVersionIsNamed) {
  std::string body = body_of(Generated{.tokens = {1}});
  body[0] = 9;
  const auto later = decode(bytes_of(sealed(body)));
  EXPECT_EQ(later.status().code(), Code::Newer);
  EXPECT_NE(later.status().message().find("version 9"), std::string::npos);
  body[0] = 0;
  EXPECT_EQ(decode(bytes_of(sealed(body))).status().code(), Code::Corrupt);
}

TEST(Records, OpenedOfTheFirstVersionLookedIntoEverything) {
  Opened opened = std::get<Opened>(samples().front());
  opened.policy.probe = 7;
  std::string body = body_of(opened);
  // The field lies behind version, type, three bytes and six numbers.
  const size_t probe = 2 + 3 + 6 * 4;
  ASSERT_EQ(body[0], 2);
  ASSERT_EQ(body.substr(probe, 4), std::string("\x07\0\0\0", 4));
  body[0] = 1;
  body.erase(probe, 4);
  const auto first = decode(bytes_of(sealed(body)));
  ASSERT_TRUE(first.ok()) << first.status().message();
  opened.policy.probe = kProbeAll;
  EXPECT_EQ(std::get<Opened>(first.value()), opened);
}

TEST(Records, WellSealedNonsenseIsCorrupt) {
  std::string body = body_of(Generated{.tokens = {1}});
  body[1] = 5;  // no such type
  EXPECT_EQ(decode(bytes_of(sealed(body))).status().code(), Code::Corrupt);
  EXPECT_EQ(decode(bytes_of(sealed(body_of(Generated{}) + "x"))).status().code(), Code::Corrupt);
  EXPECT_EQ(decode(bytes_of(sealed(""))).status().code(), Code::Corrupt);
  // Counts far beyond the bytes there are: tokens of Generated, stop strings of Began.
  body = body_of(Generated{});
  for (size_t i = 2; i < 10; ++i) body[i] = '\xff';
  EXPECT_EQ(decode(bytes_of(sealed(body))).status().code(), Code::Corrupt);
  body = body_of(Began{});
  for (size_t i = body.size() - 8; i < body.size(); ++i) body[i] = '\x7f';
  EXPECT_EQ(decode(bytes_of(sealed(body))).status().code(), Code::Corrupt);
}

// Fields behind a fitting checksum may say anything: decoding ends, and what it accepts is encoded
// to the same bytes again.
TEST(Records, RandomBodiesEndInAnErrorOrTheSameBytes) {
  std::mt19937 random(20240607);
  const auto records = samples();
  for (int round = 0; round < 20000; ++round) {
    std::string body = body_of(records[random() % records.size()]);
    for (int change = random() % 4; change >= 0 && !body.empty(); --change) {
      switch (random() % 3) {
        case 0:
          body[random() % body.size()] = static_cast<char>(random());
          break;
        case 1:
          body.resize(random() % (body.size() + 1));
          break;
        default:
          body.insert(random() % (body.size() + 1), 1, static_cast<char>(random()));
      }
    }
    const std::string bytes = sealed(body);
    const auto record = decode(bytes_of(bytes));
    if (record.ok())
      EXPECT_EQ(encode(record.value()), bytes);
    else
      EXPECT_TRUE(record.status().code() == Code::Corrupt || record.status().code() == Code::Newer);
  }
}

}  // namespace
}  // namespace ringtide::storage

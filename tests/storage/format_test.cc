// The examples of FORMAT.md are what the code writes: each line "name = hex" of the document is
// compared with the same row made here, and neither side may have more than the other.
#include <gtest/gtest.h>

#include <cctype>
#include <fstream>
#include <map>
#include <sstream>

#include "storage/bytes.h"
#include "storage/checksum.h"
#include "storage/keys.h"
#include "storage/rows.h"

namespace ringtide::storage {
namespace {

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    static constexpr char kDigits[] = "0123456789abcdef";
    text += kDigits[static_cast<unsigned char>(byte) >> 4];
    text += kDigits[static_cast<unsigned char>(byte) & 15];
  }
  return text;
}

std::map<std::string, std::string> documented() {
  std::map<std::string, std::string> examples;
  std::ifstream document(FORMAT_DOCUMENT);
  std::string line, last;
  bool inside = false;
  while (std::getline(document, line)) {
    if (line.starts_with("```")) {
      inside = line == "```example";
      continue;
    }
    if (!inside) continue;
    std::istringstream words(line.substr(0, line.find('#')));
    std::string word;
    while (words >> word) {
      if (word == "=") continue;
      const bool is_hex =
          word.size() % 2 == 0 && word.find_first_not_of("0123456789abcdef") == std::string::npos;
      if (is_hex)
        examples[last] += word;
      else
        examples[last = word];
    }
  }
  return examples;
}

std::map<std::string, std::string> made() {
  std::map<std::string, std::string> rows;
  const auto add = [&](const std::string& name, const std::string& key, const std::string& value) {
    rows[name + ".key"] = hex(key);
    rows[name + ".value"] = hex(value);
  };
  const auto number = [&](const std::string& name, const std::string& key, uint64_t value) {
    add(name, key, pack_number(key, value));
  };
  number("format", keys::format(), kFormatVersion);
  number("next_session", keys::next_session(), 4);
  number("doomed", keys::doomed(2), 2);

  const SessionEntry entry{.id = 3, .name = "tide", .created_ms = 1700000000000};
  add("session", keys::session(3), pack_session(keys::session(3), entry));

  const std::string record = encode(Generated{.tokens = {5, -1}});
  rows["record"] = hex(record);
  add("log", keys::log(3, 258), pack_log(keys::log(3, 258), 1000, record));

  TotalsRow totals{.records = 259, .tokens = 4000, .text_bytes = 17000};
  add("totals", keys::totals(3), pack_totals(keys::totals(3), totals));

  const ContentKey key{0x0102030405060708, 0x1112131415161718};
  const UnitRow unit{.id = 9, .parts = 1, .bytes = 3, .fingerprint = fingerprint_digest("model A")};
  add("unit", keys::unit(key), pack_unit(keys::unit(key), unit));
  const std::string owner = keys::owner({.key = key, .session = 3, .number = 7});
  add("owner", owner, seal(owner, ""));
  const std::string owned = keys::owned(3, 7);
  add("owned", owned, pack_owned(owned, {.key = key, .bytes = 3}));

  std::string part = "abc";
  const uint64_t sum = checksum(part_binding(key, unit, 0), part);
  ByteWriter(part).number(sum);
  add("part", keys::part(9, 0), part);
  rows["part.binding"] = hex(part_binding(key, unit, 0));
  return rows;
}

TEST(Format, DocumentedBytesAreThoseOfTheCode) {
  const auto written = documented(), right = made();
  for (const auto& [name, bytes] : right) {
    const auto found = written.find(name);
    EXPECT_EQ(found == written.end() ? "" : found->second, bytes) << name << " in FORMAT.md";
  }
  for (const auto& [name, bytes] : written) EXPECT_TRUE(right.contains(name)) << name;
}

}  // namespace
}  // namespace ringtide::storage

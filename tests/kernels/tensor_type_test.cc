#include "kernels/tensor_type.h"

#include <bit>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>

#include "kernels/half.h"
#include "tests/kernels/support.h"

namespace ringtide::kernels {
namespace {

class KvTypes : public EachTarget {};
RINGTIDE_EACH_TARGET(KvTypes);

// The value of a half by the definition of the format.
double slow_half(uint16_t h) {
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  const double sign = h & 0x8000 ? -1 : 1;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

std::vector<uint16_t> all_halves() {
  std::vector<uint16_t> halves(65536);
  for (int i = 0; i < 65536; ++i) halves[i] = static_cast<uint16_t>(i);
  return halves;
}

TEST_P(KvTypes, ReadEveryHalf) {
  const std::vector<uint16_t> halves = all_halves();
  std::vector<float> values(65536);
  from_kv(KvType::F16, halves.data(), 65536, values.data());
  for (int i = 0; i < 65536; ++i) {
    const double expected = slow_half(halves[i]);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(values[i])) << i;
    } else {
      ASSERT_EQ(values[i], expected) << i;
      ASSERT_EQ(std::signbit(values[i]), i >= 32768) << i;
    }
  }
}

TEST_P(KvTypes, WriteEveryHalfBack) {
  const std::vector<uint16_t> halves = all_halves();
  std::vector<float> values(65536);
  std::vector<uint16_t> back(65536);
  from_kv(KvType::F16, halves.data(), 65536, values.data());
  to_kv(KvType::F16, values.data(), 65536, back.data());
  for (int i = 0; i < 65536; ++i) {
    if (std::isnan(slow_half(halves[i]))) {
      ASSERT_TRUE(std::isnan(slow_half(back[i]))) << i;
    } else {
      ASSERT_EQ(back[i], halves[i]);
    }
  }
}

// Between neighbours: the middle goes to the even one, anything else to the nearer one.
TEST_P(KvTypes, RoundToNearestEven) {
  std::vector<float> values;
  std::vector<uint16_t> expected;
  for (uint16_t h = 0; h < 0x7bff; ++h) {
    const float middle = static_cast<float>((slow_half(h) + slow_half(h + 1)) / 2);
    values.insert(values.end(), {middle, std::nextafterf(middle, 0), std::nextafterf(middle, 1e9)});
    expected.insert(expected.end(), {static_cast<uint16_t>(h + h % 2), h, uint16_t(h + 1)});
  }
  values.insert(values.end(), {65519.99f, 65520, 1e30f, INFINITY, -1e30f, 1e-30f, -1e-30f});
  expected.insert(expected.end(), {0x7bff, 0x7c00, 0x7c00, 0x7c00, 0xfc00, 0, 0x8000});
  std::vector<uint16_t> halves(values.size());
  to_kv(KvType::F16, values.data(), values.size(), halves.data());
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(halves[i], expected[i]) << values[i];
}

TEST_P(KvTypes, TouchOnlyWhatIsTheirs) {
  for (const KvType type : {KvType::F32, KvType::F16}) {
    for (int n = 0; n < 40; ++n) {
      const std::vector<float> values(n, 0.5f);
      Guarded<unsigned char> stored(n * kv_bytes(type));
      Guarded<float> back(n);
      to_kv(type, values.data(), n, stored.data());
      from_kv(type, stored.data(), n, back.data());
      EXPECT_TRUE(stored.intact() && back.intact()) << n;
      for (int i = 0; i < n; ++i) ASSERT_EQ(back[i], 0.5f);
    }
  }
}

TEST(HalfTest, ScalarAgreesWithTheDefinition) {
  for (int i = 0; i < 65536; ++i) {
    const double expected = slow_half(static_cast<uint16_t>(i));
    const float value = half_to_float(static_cast<uint16_t>(i));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value) && std::isnan(slow_half(float_to_half(value))));
    } else {
      ASSERT_EQ(value, expected);
      ASSERT_EQ(float_to_half(value), i);
    }
  }
}

TEST(TensorTypes, DequantizeLikeTheGgufPackage) {
  std::map<std::string, TensorType> types;
  for (int i = 0; i < kTensorTypes; ++i) {
    const auto type = static_cast<TensorType>(i);
    types.emplace(type_info(type).name, type);
  }
  std::ifstream file(RINGTIDE_FIXTURES "/gguf_blocks.txt");
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    std::istringstream words(line);
    std::string name, hex;
    words >> name >> hex;
    ASSERT_TRUE(types.count(name)) << name;
    const TensorType type = types.at(name);
    EXPECT_EQ(type_info(type).name, name);
    std::vector<std::byte> bytes;
    for (size_t i = 0; i < hex.size(); i += 2) {
      bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    }
    std::vector<uint32_t> expected;
    for (std::string bits; words >> bits;) expected.push_back(std::stoul(bits, nullptr, 16));
    const int64_t n = expected.size();
    ASSERT_EQ(row_bytes(type, n), static_cast<int64_t>(bytes.size()));
    Guarded<float> values(n);
    dequantize(type, bytes.data(), n, values.data());
    EXPECT_TRUE(values.intact());
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(values[i], std::bit_cast<float>(expected[i])) << name << " " << i;
    }
  }
  EXPECT_EQ(lines, 2 * kTensorTypes);
}

TEST(TensorTypes, DequantizeNothing) { dequantize(TensorType::Q4_1, nullptr, 0, nullptr); }

}  // namespace
}  // namespace ringtide::kernels

#include "model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/types.h"
#include "tests/support/tiny_folder.h"

namespace ringtide::model {
namespace {

using ::testing::HasSubstr;
using testing::safetensors;

std::vector<std::byte> data(size_t n) { return std::vector<std::byte>(n, std::byte{7}); }

TEST(Safetensors, GivesTensorsInTheOrderOfTheFile) {
  const auto bytes = safetensors(
      R"({"b":{"dtype":"F32","shape":[2,3],"data_offsets":[2,26]},"__metadata__":{"x":"y"},)"
      R"("a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},)"
      R"("empty":{"dtype":"F16","shape":[0,4],"data_offsets":[26,26]}})",
      data(26));
  const SafetensorsFile file = SafetensorsFile::from_memory(bytes, "x");
  ASSERT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file.tensors()[0].type_name, "BF16");
  EXPECT_EQ(file.tensors()[1].name, "b");
  EXPECT_EQ(file.tensors()[1].shape, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(file.tensors()[1].bytes.size(), 24u);
  EXPECT_EQ(file.tensors()[1].bytes.data() + 24, bytes.data() + bytes.size());
}

TEST(Safetensors, RefusesAnyPrefix) {
  const auto bytes =
      safetensors(testing::tiny_folder({.layers = 1, .hidden = 32, .ffn = 32}).tensors);
  for (size_t n = 0; n < bytes.size(); n += n < 2000 ? 1 : 977) {
    // Exactly as large, so that a sanitizer sees any step past the end.
    const std::vector<std::byte> part(bytes.begin(), bytes.begin() + n);
    EXPECT_THROW(SafetensorsFile::from_memory(part, "x"), ModelError) << n;
  }
}

struct Bad {
  const char* what;
  const char* header;
  const char* message;
};

class BadSafetensors : public ::testing::TestWithParam<Bad> {};

TEST_P(BadSafetensors, AreRefusedByName) {
  try {
    SafetensorsFile::from_memory(safetensors(GetParam().header, data(8)), "x.safetensors");
    FAIL() << "was accepted";
  } catch (const ModelError& error) {
    EXPECT_THAT(error.what(), HasSubstr("x.safetensors: "));
    EXPECT_THAT(error.what(), HasSubstr(GetParam().message));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Safetensors, BadSafetensors,
    ::testing::Values(
        Bad{"no json", "{", "is no JSON"}, Bad{"array", "[]", "not an object"},
        Bad{"twice",
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
            "twice"},
        Bad{"type", R"({"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})", "\"F33\""},
        Bad{"no type", R"({"a":{"shape":[2],"data_offsets":[0,8]}})", "\"a.dtype\" is missing"},
        Bad{"no shape", R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", "\"a.shape\" is missing"},
        Bad{"negative", R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "no count"},
        Bad{"real", R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", "no count"},
        Bad{"overflow",
            R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}})",
            "too large"},
        Bad{"huge", R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})",
            "too large"},
        Bad{"one offset", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", "two counts"},
        Bad{"backwards", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "damaged"},
        Bad{"beyond", R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", "damaged"},
        Bad{"shape", R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
            "but the shape takes 12"},
        Bad{"gap", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "begins at byte"},
        Bad{"overlap",
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
            "where the one before ends"},
        Bad{"rest", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
            "4 bytes at its end"},
        Bad{"deep",
            "{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"
            "]}",
            "nested deeper"}),
    [](const auto& test) {
      std::string name;
      for (const char c : std::string(test.param.what)) name += std::isalnum(c) ? c : '_';
      return name;
    });

}  // namespace
}  // namespace ringtide::model

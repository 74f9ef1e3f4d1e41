#include "model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/gguf_builder.h"

namespace ringtide::model {
namespace {

using ::testing::AllOf;
using testing::BuiltTensor;
using ::testing::ElementsAre;
using testing::GgufBuilder;
using ::testing::HasSubstr;
using Bytes = std::vector<std::byte>;

// One entry of each kind and two tensors.
GgufBuilder sample() {
  GgufBuilder file;
  file.set("a.uint32", uint32_t{7});
  file.set("a.int32", int32_t{-7});
  file.set("a.uint64", uint64_t{1} << 40);
  file.set("a.float", 0.5f);
  file.set("a.bool", true);
  file.set("a.string", std::string("quay"));
  file.set("an.int32s", std::vector<int32_t>{1, -2, 3});
  file.set("an.floats", std::vector<float>{0.25f, -1.0f});
  file.set("an.strings", std::vector<std::string>{"ebb", "", "flood"});
  file.tensors.push_back({"first", {32, 2}, 8, Bytes(2 * 34, std::byte{1})});
  file.tensors.push_back({"second", {5}, 0, Bytes(5 * 4, std::byte{2})});
  return file;
}

GgufFile open(const Bytes& bytes) { return GgufFile::from_memory(bytes, "sample"); }

// The message with which the bytes are refused; empty where they are not.
std::string refusal(const Bytes& bytes) {
  try {
    open(bytes);
  } catch (const ModelError& error) {
    return error.what();
  }
  return "";
}

template <class T>
void overwrite(Bytes& bytes, uint64_t offset, T value) {
  ASSERT_LE(offset + sizeof value, bytes.size());
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

uint64_t find_mark(const std::vector<GgufBuilder::Mark>& marks, const std::string& what,
                   const std::string& after = "") {
  bool passed = after.empty();
  for (const auto& mark : marks) {
    passed = passed || mark.what == after;
    if (passed && mark.what == what) return mark.offset;
  }
  ADD_FAILURE() << "no mark " << what;
  return 0;
}

TEST(Gguf, ReadsEveryKindOfValue) {
  const Bytes bytes = sample().build();
  const GgufFile file = open(bytes);
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.require<uint32_t>("a.uint32"), 7u);
  EXPECT_EQ(file.require<int64_t>("a.uint32"), 7);
  EXPECT_EQ(file.require<int32_t>("a.int32"), -7);
  EXPECT_EQ(file.require<uint64_t>("a.uint64"), uint64_t{1} << 40);
  EXPECT_EQ(file.require<float>("a.float"), 0.5f);
  EXPECT_EQ(file.require<double>("a.float"), 0.5);
  EXPECT_TRUE(file.require<bool>("a.bool"));
  EXPECT_EQ(file.require<std::string_view>("a.string"), "quay");
  EXPECT_THAT(file.require<std::vector<int32_t>>("an.int32s"), ElementsAre(1, -2, 3));
  EXPECT_THAT(file.require<std::vector<float>>("an.floats"), ElementsAre(0.25f, -1.0f));
  EXPECT_THAT(file.require<std::vector<std::string_view>>("an.strings"),
              ElementsAre("ebb", "", "flood"));
  EXPECT_EQ(file.find<int32_t>("absent"), std::nullopt);
}

TEST(Gguf, GivesEachTensorItsBytes) {
  const Bytes bytes = sample().build();
  const GgufFile file = open(bytes);
  ASSERT_EQ(file.tensors().size(), 2u);
  const FileTensor* first = file.tensor("first");
  ASSERT_NE(first, nullptr);
  EXPECT_THAT(first->shape, ElementsAre(32, 2));
  EXPECT_EQ(first->type_name, "Q8_0");
  EXPECT_EQ(first->bytes.size(), 68u);
  const FileTensor* second = file.tensor("second");
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->offset % 32, 0u);
  EXPECT_EQ(second->bytes[0], std::byte{2});
  EXPECT_EQ(second->bytes.data(), bytes.data() + second->offset);
  EXPECT_EQ(file.tensor("third"), nullptr);
}

TEST(Gguf, HonoursTheAlignmentOfTheFile) {
  GgufBuilder builder = sample();
  builder.alignment = 256;
  builder.set("general.alignment", uint32_t{256});
  const Bytes bytes = builder.build();
  const GgufFile file = open(bytes);
  EXPECT_EQ(file.tensor("second")->offset % 256, 0u);
  EXPECT_EQ(file.tensor("second")->bytes[0], std::byte{2});
}

TEST(Gguf, ReadsVersion2) {
  GgufBuilder builder = sample();
  builder.version = 2;
  EXPECT_EQ(open(builder.build()).version(), 2u);
}

TEST(Gguf, KeepsTensorsOfTypesItDoesNotKnow) {
  GgufBuilder builder = sample();
  builder.tensor("second").type = 4711;
  const Bytes bytes = builder.build();
  const GgufFile file = open(bytes);
  EXPECT_EQ(file.tensor("second")->type_name, "");
  EXPECT_TRUE(file.tensor("second")->bytes.empty());
}

TEST(Gguf, WrongUseOfAValueNamesTheKeyAndBothKinds) {
  const Bytes bytes = sample().build();
  const GgufFile file = open(bytes);
  const auto message = [](const std::function<void()>& use) -> std::string {
    try {
      use();
    } catch (const ModelError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message([&] { file.require<int32_t>("absent"); }),
              AllOf(HasSubstr("sample"), HasSubstr("\"absent\" is missing")));
  EXPECT_THAT(message([&] { file.require<int32_t>("a.string"); }),
              AllOf(HasSubstr("\"a.string\" is a string"), HasSubstr("not an integer")));
  EXPECT_THAT(message([&] { file.require<float>("a.uint32"); }), HasSubstr("not a float"));
  EXPECT_THAT(message([&] { file.require<bool>("a.uint32"); }), HasSubstr("not a bool"));
  EXPECT_THAT(message([&] { file.require<uint32_t>("an.int32s"); }),
              HasSubstr("an array of 3 int32, not an integer"));
  EXPECT_THAT(message([&] { file.require<std::vector<int32_t>>("a.uint32"); }),
              HasSubstr("not an array of integers"));
  EXPECT_THAT(message([&] { file.require<std::vector<std::string_view>>("an.floats"); }),
              HasSubstr("not an array of strings"));
  EXPECT_THAT(message([&] { file.require<uint32_t>("a.int32"); }),
              AllOf(HasSubstr("\"a.int32\" is -7"), HasSubstr("out of range")));
  EXPECT_THAT(message([&] { file.require<int32_t>("a.uint64"); }), HasSubstr("out of range"));
}

TEST(Gguf, RefusesEveryPrefix) {
  const Bytes whole = sample().build();
  const GgufFile file = open(whole);
  const uint64_t needed = file.tensor("second")->offset + file.tensor("second")->bytes.size();
  for (uint64_t size = 0; size < needed; ++size) {
    const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_NE(refusal(part), "") << "the first " << size << " bytes opened";
  }
  // What pads the last tensor carries nothing.
  EXPECT_EQ(refusal(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(needed))), "");
}

TEST(Gguf, SurvivesEveryFlippedByte) {
  const Bytes whole = sample().build();
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const unsigned mask : {0x01u, 0x80u, 0xffu}) {
      Bytes bytes = whole;
      bytes[i] ^= static_cast<std::byte>(mask);
      try {
        open(bytes);
      } catch (const ModelError& error) {
        EXPECT_THAT(error.what(), HasSubstr("sample: "));
      }
    }
  }
}

struct Damage {
  const char* what;
  std::function<void(GgufBuilder&)> change;
  const char* message;
};

class DamagedParts : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedParts, AreRefusedByName) {
  GgufBuilder builder = sample();
  GetParam().change(builder);
  EXPECT_THAT(refusal(builder.build()),
              AllOf(HasSubstr("sample: "), HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Gguf, DamagedParts,
    ::testing::ValuesIn(std::vector<Damage>{
        {"magic", [](GgufBuilder& b) { b.magic = 0x12345678; }, "\"GGUF\""},
        {"version 1", [](GgufBuilder& b) { b.version = 1; }, "the version is 1"},
        {"version 4", [](GgufBuilder& b) { b.version = 4; }, "the version is 4"},
        {"big endian", [](GgufBuilder& b) { b.version = 0x03000000; }, "big endian"},
        {"alignment 0", [](GgufBuilder& b) { b.set("general.alignment", uint32_t{0}); },
         "\"general.alignment\" is 0"},
        {"alignment 48", [](GgufBuilder& b) { b.set("general.alignment", uint32_t{48}); },
         "\"general.alignment\" is 48"},
        {"alignment 2^31", [](GgufBuilder& b) { b.set("general.alignment", uint32_t{1} << 31); },
         "\"general.alignment\""},
        {"alignment text", [](GgufBuilder& b) { b.set("general.alignment", std::string("32")); },
         "\"general.alignment\" is a string"},
        {"key twice", [](GgufBuilder& b) { b.metadata.push_back(b.metadata[0]); },
         "metadata key \"a.uint32\" is there twice"},
        {"empty key", [](GgufBuilder& b) { b.metadata[2].key.clear(); }, "metadata key 2 has 0"},
        {"long key", [](GgufBuilder& b) { b.metadata[1].key.assign(70000, 'k'); },
         "metadata key 1 has 70000"},
        {"tensor twice", [](GgufBuilder& b) { b.tensors.push_back(b.tensors[0]); },
         "tensor name \"first\" is there twice"},
        {"empty tensor name", [](GgufBuilder& b) { b.tensors[1].name.clear(); },
         "the name of tensor 1 has 0"},
        {"no dimensions", [](GgufBuilder& b) { b.tensor("second").shape.clear(); },
         "\"second\" has 0 dimensions"},
        {"five dimensions", [](GgufBuilder& b) { b.tensor("second").shape.assign(5, 1); },
         "\"second\" has 5 dimensions"},
        {"zero dimension",
         [](GgufBuilder& b) {
           b.tensor("second").shape = {5, 0};
         },
         "dimension 1 of tensor \"second\" is 0"},
        {"huge dimension", [](GgufBuilder& b) { b.tensor("second").shape = {~uint64_t{0}}; },
         "dimension 0 of tensor \"second\""},
        {"product overflows",
         [](GgufBuilder& b) {
           b.tensor("second").shape = {uint64_t{1} << 32, uint64_t{1} << 32};
         },
         "dimension 1 of tensor \"second\""},
        {"bytes overflow", [](GgufBuilder& b) { b.tensor("second").shape = {uint64_t{1} << 62}; },
         "the data of tensor \"second\" (F32)"},
        {"broken block",
         [](GgufBuilder& b) {
           b.tensor("first").shape = {48, 1};
         },
         "\"first\" has rows of 48 elements, not whole Q8_0 blocks of 32"},
        {"misaligned offset", [](GgufBuilder& b) { b.tensor("second").offset = 97; },
         "the offset of tensor \"second\" is 97"},
        {"offset past the end",
         [](GgufBuilder& b) { b.tensor("second").offset = uint64_t{1} << 40; },
         "the offset of tensor \"second\""},
        {"offset that wraps", [](GgufBuilder& b) { b.tensor("second").offset = ~uint64_t{31}; },
         "the offset of tensor \"second\""},
        {"data past the end", [](GgufBuilder& b) { b.tensor("second").shape = {500}; },
         "the data of tensor \"second\" (F32)"},
        {"overlap", [](GgufBuilder& b) { b.tensor("second").offset = 64; },
         "tensors \"first\" and \"second\" overlap"},
        {"same place", [](GgufBuilder& b) { b.tensor("second").offset = 0; }, "overlap"},
        {"same place, unknown types",
         [](GgufBuilder& b) {
           b.tensor("first").type = b.tensor("second").type = 99;
           b.tensor("second").offset = 0;
         },
         "overlap"},
    }),
    [](const auto& test) {
      std::string name;
      for (const char c : std::string(test.param.what)) name += std::isalnum(c) ? c : '_';
      return name;
    });

TEST(Gguf, RefusesCountsThatTheBytesCannotHold) {
  std::vector<GgufBuilder::Mark> marks;
  const Bytes whole = sample().build(&marks);
  const std::pair<const char*, const char*> kCounts[] = {
      {"tensor count", "the tensor count is"}, {"metadata count", "the metadata count is"}};
  for (const auto& [mark, message] : kCounts) {
    for (const uint64_t count : {uint64_t{1000}, uint64_t{1} << 61, ~uint64_t{0}}) {
      Bytes bytes = whole;
      overwrite(bytes, find_mark(marks, mark), count);
      EXPECT_THAT(refusal(bytes), HasSubstr(message + (" " + std::to_string(count))));
    }
  }
}

TEST(Gguf, RefusesLengthsThatTheBytesCannotHold) {
  std::vector<GgufBuilder::Mark> marks;
  const Bytes whole = sample().build(&marks);
  const uint64_t text = find_mark(marks, "the value", "kind of a.string");
  const uint64_t numbers = find_mark(marks, "the elements", "kind of an.int32s");
  const uint64_t strings = find_mark(marks, "the elements", "kind of an.strings");
  for (const uint64_t length : {uint64_t{1} << 20, uint64_t{1} << 62, ~uint64_t{0}}) {
    Bytes bytes = whole;
    overwrite(bytes, text, length);
    EXPECT_THAT(refusal(bytes), HasSubstr("metadata \"a.string\" needs"));

    bytes = whole;
    overwrite(bytes, numbers - 8, length);
    EXPECT_THAT(refusal(bytes), HasSubstr("the element count of metadata \"an.int32s\""));

    bytes = whole;
    overwrite(bytes, strings - 8, length);
    EXPECT_THAT(refusal(bytes), HasSubstr("the element count of metadata \"an.strings\""));

    bytes = whole;
    overwrite(bytes, strings, length);
    EXPECT_THAT(refusal(bytes), HasSubstr("metadata \"an.strings\" needs"));

    bytes = whole;
    overwrite(bytes, find_mark(marks, "key a.bool"), length);
    EXPECT_THAT(refusal(bytes), HasSubstr("metadata key 4 needs"));

    bytes = whole;
    overwrite(bytes, find_mark(marks, "name of second"), length);
    EXPECT_THAT(refusal(bytes), HasSubstr("the name of tensor 1 needs"));
  }
}

TEST(Gguf, RefusesKindsThatDoNotExist) {
  std::vector<GgufBuilder::Mark> marks;
  const Bytes whole = sample().build(&marks);
  Bytes bytes = whole;
  overwrite(bytes, find_mark(marks, "kind of a.float"), uint32_t{13});
  EXPECT_THAT(refusal(bytes), HasSubstr("the kind of metadata \"a.float\" is 13"));

  const uint64_t element_kind = find_mark(marks, "the value", "kind of an.floats");
  bytes = whole;
  overwrite(bytes, element_kind, uint32_t{77});
  EXPECT_THAT(refusal(bytes), HasSubstr("the element kind of metadata \"an.floats\" is 77"));
  bytes = whole;
  overwrite(bytes, element_kind, uint32_t{9});
  EXPECT_THAT(refusal(bytes), HasSubstr("\"an.floats\" is an array of arrays"));

  bytes = whole;
  overwrite(bytes, find_mark(marks, "the value", "kind of a.bool"), uint8_t{2});
  EXPECT_THAT(refusal(bytes), HasSubstr("\"a.bool\" has a bool that is neither 0 nor 1"));
}

TEST(Gguf, ShowsNamesOfAHostileFileHarmlessly) {
  GgufBuilder builder = sample();
  builder.tensors[1].name = "\x1b[2J\n" + std::string(500, 'x');
  builder.tensors[1].shape = {0};
  EXPECT_THAT(refusal(builder.build()),
              AllOf(HasSubstr("\\x1b[2J\\x0a"), HasSubstr("x\"..."), Not(HasSubstr("\n"))));
}

class GgufOnDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("gguf_test." + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  static std::string refusal_of(const std::string& path) {
    try {
      GgufFile::open(path);
    } catch (const ModelError& error) {
      return error.what();
    }
    return "";
  }

  std::filesystem::path folder_;
};

TEST_F(GgufOnDisk, ReadsAMappedFileThatMoves) {
  testing::write_file(path("sample.gguf"), sample().build());
  GgufFile opened = GgufFile::open(path("sample.gguf"));
  const GgufFile file = std::move(opened);
  EXPECT_EQ(file.require<std::string_view>("a.string"), "quay");
  EXPECT_EQ(file.tensor("second")->bytes[0], std::byte{2});
  file.mapping()->forget_pages();
  EXPECT_EQ(file.tensor("second")->bytes[0], std::byte{2});
}

TEST_F(GgufOnDisk, RefusesWhatIsNoFile) {
  EXPECT_THAT(refusal_of(path("absent.gguf")),
              AllOf(HasSubstr("absent.gguf"), HasSubstr("No such file")));
  EXPECT_THAT(refusal_of(folder_.string()), HasSubstr("not a regular file"));
  EXPECT_THAT(refusal_of("/dev/null"), HasSubstr("not a regular file"));
  std::ofstream(path("empty.gguf"));
  EXPECT_THAT(refusal_of(path("empty.gguf")), HasSubstr("the magic number needs 4 bytes"));
  std::ofstream(path("text.gguf")) << "# Not a model\n";
  EXPECT_THAT(refusal_of(path("text.gguf")), HasSubstr("does not begin with \"GGUF\""));
}

}  // namespace
}  // namespace ringtide::model

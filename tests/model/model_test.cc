#include "model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "model/shard_model.h"
#include "model/tokenizer.h"
#include "tests/support/tiny_gguf.h"

namespace ringtide::model {
namespace {

using ::testing::AllOf;
using testing::GgufBuilder;
using ::testing::HasSubstr;

class ModelLoad : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("model_test." + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    path_ = (folder_ / "tiny.gguf").string();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::shared_ptr<const Model> load(const GgufBuilder& builder) {
    testing::write_file(path_, builder.build());
    return Model::load(path_);
  }
  std::string refusal(const GgufBuilder& builder) {
    try {
      load(builder);
    } catch (const ModelError& error) {
      return error.what();
    }
    return "";
  }

  std::filesystem::path folder_;
  std::string path_;
};

TEST_F(ModelLoad, GivesAWholeModel) {
  const auto model = load(testing::tiny_gguf({.type = "Q4_1", .embedding_type = "Q8_0"}));
  EXPECT_EQ(model->path, path_);
  EXPECT_EQ(model->config.layers, 2);
  EXPECT_EQ(model->tensors.layers.size(), 2u);
  EXPECT_THAT(model->fingerprint, ::testing::MatchesRegex("[0-9a-f]{32}"));
  EXPECT_THAT(model->chat_template, HasSubstr("<|im_start|>"));
  ASSERT_NE(model->tokenizer, nullptr);
  EXPECT_EQ(model->tokenizer->size(), model->config.vocabulary);
  EXPECT_EQ(model->tensors.output.n, model->config.vocabulary);
  EXPECT_EQ(model->tensors.output.k, model->config.hidden);
}

TEST_F(ModelLoad, AShardsIsTheSameWithoutATokenizer) {
  const auto whole = load(testing::tiny_gguf({}));
  const auto shard = load_shard_model(path_);
  EXPECT_EQ(shard->tokenizer, nullptr);
  EXPECT_EQ(shard->fingerprint, whole->fingerprint);
  EXPECT_EQ(shard->config.vocabulary, whole->config.vocabulary);
  EXPECT_EQ(shard->tensors.bytes, whole->tensors.bytes);
}

TEST_F(ModelLoad, OutlivesItsDirectoryEntry) {
  const auto model = load(testing::tiny_gguf({.embedding_type = "F32"}));
  const std::vector<std::byte> whole = testing::tiny_gguf({}).tensor("token_embd.weight").bytes;
  std::filesystem::remove(path_);
  EXPECT_EQ(std::memcmp(model->tensors.embedding.rows, whole.data(), whole.size()), 0);
}

TEST_F(ModelLoad, TheSameFileIsTheSameModel) {
  const std::string one = load(testing::tiny_gguf({}))->fingerprint;
  EXPECT_EQ(load(testing::tiny_gguf({}))->fingerprint, one);
  EXPECT_NE(load(testing::tiny_gguf({.seed = 9}))->fingerprint, one);
}

TEST_F(ModelLoad, ErrorsNameTheFile) {
  GgufBuilder other = testing::tiny_gguf({});
  other.set("general.architecture", std::string("gpt2"));
  EXPECT_THAT(refusal(other),
              AllOf(HasSubstr(path_), HasSubstr("\"gpt2\""), HasSubstr("supported: llama")));
  GgufBuilder short_one = testing::tiny_gguf({});
  short_one.drop_tensor("blk.0.attn_k.weight");
  EXPECT_THAT(refusal(short_one), AllOf(HasSubstr(path_), HasSubstr("\"blk.0.attn_k.weight\"")));
}

}  // namespace
}  // namespace ringtide::model

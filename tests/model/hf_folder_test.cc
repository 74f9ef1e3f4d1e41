#include "model/hf_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "model/shard_model.h"
#include "model/tokenizer.h"
#include "tests/model/greedy.h"
#include "tests/support/tiny_folder.h"

namespace ringtide::model {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::tiny_folder;
using testing::TinyFolder;
using testing::TinyModel;

class HfFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::temp_directory_path() / ("hf_folder." + std::to_string(::getpid()));
    std::filesystem::create_directories(root_);
    folder_ = (root_ / "tiny").string();
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  std::shared_ptr<const Model> load(const TinyFolder& folder) {
    std::filesystem::remove_all(folder_);
    folder.write(folder_);
    return Model::load(folder_);
  }
  std::shared_ptr<const Model> load_gguf(const TinyModel& m) {
    testing::write_tiny_gguf(folder_ + ".gguf", m);
    return Model::load(folder_ + ".gguf");
  }
  std::string refusal(const TinyFolder& folder) {
    std::filesystem::remove_all(folder_);
    folder.write(folder_);
    return refusal();
  }
  std::string refusal() {
    try {
      Model::load(folder_);
    } catch (const ModelError& error) {
      return error.what();
    }
    return "";
  }

  std::filesystem::path root_;
  std::string folder_;
};

const TinyModel kFamily[] = {
    {},
    {.architecture = "llama", .tied = false, .linear_scaling = 4, .sliding_window = 40},
    {.architecture = "qwen2"},
    {.architecture = "qwen3", .head_dim = 32},
    {.architecture = "gemma3", .layers = 7, .kv_heads = 1, .head_dim = 32, .linear_scaling = 8},
};

// The same weights in both containers are the same model.
TEST_F(HfFolder, SpeaksAsTheGgufFileDoes) {
  for (const TinyModel& m : kFamily) {
    for (int shards : {1, 3}) {
      TinyFolder parts = tiny_folder(m);
      parts.shards = shards;
      const auto folder = load(parts), gguf = load_gguf(m);
      EXPECT_EQ(folder->config.rope_inv_freq, gguf->config.rope_inv_freq);
      EXPECT_EQ(folder->config.sliding_inv_freq, gguf->config.sliding_inv_freq);
      EXPECT_EQ(folder->config.sliding, gguf->config.sliding);
      EXPECT_EQ(folder->chat_template, gguf->chat_template);
      EXPECT_EQ(folder->tokenizer->bos(), gguf->tokenizer->bos());
      EXPECT_EQ(folder->tokenizer->adds_bos(), gguf->tokenizer->adds_bos());
      EXPECT_TRUE(folder->tokenizer->ends_generation(testing::kTinyEndOfText));
      const std::string text = "There is a harbour in the 123 \u00e9 <|im_end|>\n";
      const auto prompt = gguf->tokenizer->encode(text);
      EXPECT_EQ(folder->tokenizer->encode(text), prompt);
      EXPECT_EQ(testing::continue_greedily(folder, prompt, 40),
                testing::continue_greedily(gguf, prompt, 40))
          << m.architecture;
    }
  }
}

TEST_F(HfFolder, TakesHalfPrecision) {
  for (const char* type : {"F16", "BF16"}) {
    const auto model = load(tiny_folder({}, type));
    EXPECT_EQ(kernels::type_info(model->tensors.layers[0].wq.type).name, type);
    EXPECT_EQ(testing::continue_greedily(model, {1, 2, 3}, 4).size(), 4u);
  }
}

TEST_F(HfFolder, TheSameFolderIsTheSameModel) {
  const std::string one = load(tiny_folder({}))->fingerprint;
  EXPECT_EQ(load_shard_model(folder_)->fingerprint, one);
  EXPECT_EQ(load_shard_model(folder_)->tokenizer, nullptr);
  EXPECT_THAT(one, ::testing::MatchesRegex("[0-9a-f]{32}"));
  EXPECT_EQ(load(tiny_folder({}))->fingerprint, one);
  EXPECT_NE(load(tiny_folder({.seed = 9}))->fingerprint, one);
  TinyFolder sharded = tiny_folder({});
  sharded.shards = 2;
  EXPECT_EQ(load(sharded)->fingerprint, one);
  TinyFolder other = tiny_folder({});
  other.json["config.json"]["rope_theta"] = 500.0;
  EXPECT_NE(load(other)->fingerprint, one);
}

TEST_F(HfFolder, ReadsLlama3ScalingAndNewerRopeParameters) {
  TinyFolder folder = tiny_folder({});
  const json scaling = {{"rope_type", "llama3"},
                        {"factor", 8.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 64}};
  folder.json["config.json"]["rope_scaling"] = scaling;
  const auto old = load(folder)->config.rope_inv_freq;
  EXPECT_DOUBLE_EQ(old.back(), load(tiny_folder({}))->config.rope_inv_freq.back() / 8);
  json& config = folder.json["config.json"];
  config.erase("rope_scaling");
  config.erase("rope_theta");
  config["rope_parameters"] = scaling;
  config["rope_parameters"]["rope_theta"] = 10000.0;
  EXPECT_EQ(load(folder)->config.rope_inv_freq, old);

  TinyFolder gemma = tiny_folder({.architecture = "gemma3", .layers = 6});
  gemma.json["config.json"]["rope_parameters"] = {
      {"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 300.0}}}};
  const auto model = load(gemma);
  EXPECT_DOUBLE_EQ(model->config.rope_inv_freq[1], std::pow(1e6, -1.0 / 8) / 8);
  EXPECT_DOUBLE_EQ(model->config.sliding_inv_freq[1], std::pow(300, -1.0 / 8));
}

TEST_F(HfFolder, LayerTypesSayWhichSlide) {
  TinyFolder folder = tiny_folder({.architecture = "gemma3", .layers = 2});
  folder.json["config.json"]["layer_types"] = {"full_attention", "sliding_attention"};
  EXPECT_EQ(load(folder)->config.sliding, std::vector<bool>({false, true}));
}

TEST_F(HfFolder, IgnoresWhatATiedModelCarriesTwice) {
  TinyFolder folder = tiny_folder({});
  folder.tensors["lm_head.weight"] = folder.tensors["model.embed_tokens.weight"];
  folder.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {
      "F32", {8}, std::vector<std::byte>(32)};
  const auto model = load(folder);
  EXPECT_EQ(model->tensors.output.rows, model->tensors.embedding.rows);
}

TEST_F(HfFolder, AddsBosWhereTheTemplateDoes) {
  TinyFolder folder = tiny_folder({});
  folder.json["tokenizer.json"]["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<|im_start|>"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}}};
  const auto model = load(folder);
  EXPECT_TRUE(model->tokenizer->adds_bos());
  EXPECT_EQ(model->tokenizer->bos(), testing::kTinyStart);
}

TEST_F(HfFolder, RowsWithoutATokenAreUnused) {
  TinyFolder folder = tiny_folder({});
  auto& embedding = folder.tensors["model.embed_tokens.weight"];
  const size_t row = embedding.bytes.size() / embedding.shape[0];
  embedding.shape[0] += 5;
  embedding.bytes.resize(embedding.bytes.size() + 5 * row);
  folder.json["config.json"]["vocab_size"] = embedding.shape[0];
  const auto model = load(folder);
  EXPECT_EQ(model->tokenizer->size(), static_cast<int32_t>(embedding.shape[0]));
}

TEST_F(HfFolder, ATemplateMayBeAFileOfItsOwn) {
  tiny_folder({}).write(folder_);
  std::ofstream(folder_ + "/chat_template.jinja") << "{{ messages }}";
  EXPECT_EQ(Model::load(folder_)->chat_template, "{{ messages }}");
}

struct BadFolder {
  const char* what;
  std::function<void(TinyFolder&)> change;
  std::vector<const char*> message;
};

class BadFolders : public HfFolder, public ::testing::WithParamInterface<BadFolder> {};

TEST_P(BadFolders, AreRefusedByName) {
  TinyFolder folder = tiny_folder({});
  GetParam().change(folder);
  const std::string message = refusal(folder);
  EXPECT_THAT(message, HasSubstr(folder_));
  for (const char* part : GetParam().message) EXPECT_THAT(message, HasSubstr(part));
}

BadFolder config(const char* what, const char* key, json value, std::vector<const char*> message) {
  message.push_back("config.json");
  return {what, [=](TinyFolder& f) { f.json["config.json"][key] = value; }, message};
}

BadFolder tokenizer(const char* what, const char* pointer, json value,
                    std::vector<const char*> message) {
  message.push_back("tokenizer.json");
  return {what,
          [=](TinyFolder& f) { f.json["tokenizer.json"][json::json_pointer(pointer)] = value; },
          message};
}

INSTANTIATE_TEST_SUITE_P(
    HfFolder, BadFolders,
    ::testing::ValuesIn(std::vector<BadFolder>{
        config("architecture", "architectures", {"MambaForCausalLM"},
               {"\"architectures\" is \"MambaForCausalLM\"", "LlamaForCausalLM", "Qwen3ForCausalLM"}),
        config("no architecture", "architectures", nullptr, {"\"architectures\" is missing"}),
        config("layers text", "num_hidden_layers", "two", {"\"num_hidden_layers\"", "an integer"}),
        config("layers 0", "num_hidden_layers", 0, {"from 1 to 1024"}),
        config("layers huge", "num_hidden_layers", 18446744073709551615u, {"from 1 to 1024"}),
        config("layers real", "num_hidden_layers", 2.0, {"an integer"}),
        {"more layers", [](TinyFolder& f) { f.json["config.json"]["num_hidden_layers"] = 3; },
         {"\"model.layers.2.input_layernorm.weight\" is missing"}},
        config("kv heads", "num_key_value_heads", 3, {"divide"}),
        config("odd head", "head_dim", 15, {"even"}),
        config("base", "rope_theta", 0, {"above 0"}),
        config("yarn", "rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}},
               {"\"rope_scaling.rope_type\" is \"yarn\"", "llama3"}),
        config("activation", "hidden_act", "relu", {"\"relu\"", "supported: silu"}),
        config("attention bias", "attention_bias", true, {"not supported"}),
        config("quantised", "quantization_config", json::object(), {"GGUF"}),
        config("part rotation", "partial_rotary_factor", 0.5, {"not supported"}),
        {"other vocabulary", [](TinyFolder& f) { f.json["config.json"]["vocab_size"] = 100; },
         {"\"model.embed_tokens.weight\" has shape (64, 292), not (64, 100)"}},
        tokenizer("unigram", "/model/type", "Unigram", {"\"model.type\"", "BPE"}),
        tokenizer("splitting", "/pre_tokenizer", {{"type", "Whitespace"}}, {"\"pre_tokenizer\""}),
        tokenizer("normalizer", "/normalizer", {{"type", "Lowercase"}}, {"\"normalizer\""}),
        tokenizer("id", "/model/vocab/zzz", 100000, {"\"zzz\"", "an id that is none"}),
        tokenizer("id twice", "/model/vocab/zzz", 5, {"gives id 5 to"}),
        tokenizer("merge", "/model/merges/0", 7, {"\"model.merges\""}),
        tokenizer("merge of no tokens", "/model/merges/0", "q z", {"merge"}),
        {"eos is no token",
         [](TinyFolder& f) { f.json["tokenizer_config.json"]["eos_token"] = "<end>"; },
         {"tokenizer_config.json", "\"eos_token\" is \"<end>\""}},
        {"no template called default",
         [](TinyFolder& f) { f.json["tokenizer_config.json"]["chat_template"] = json::array(); },
         {"\"chat_template\"", "default"}},
        {"missing tensor",
         [](TinyFolder& f) { f.tensors.erase("model.layers.1.mlp.up_proj.weight"); },
         {"\"model.layers.1.mlp.up_proj.weight\" is missing"}},
        {"transposed",
         [](TinyFolder& f) {
           std::ranges::reverse(f.tensors["model.layers.1.mlp.up_proj.weight"].shape);
         },
         {"\"model.layers.1.mlp.up_proj.weight\" has shape (128, 64), not (64, 128)"}},
        {"integers",
         [](TinyFolder& f) { f.tensors["model.layers.1.mlp.up_proj.weight"].dtype = "I32"; },
         {"has type I32", "supported: F32"}},
        {"a bias",
         [](TinyFolder& f) {
           f.tensors["model.layers.0.self_attn.o_proj.bias"] = {
               "F32", {64}, std::vector<std::byte>(256)};
         },
         {"o_proj.bias\"", "would change the model's output"}},
        {"untied without an output",
         [](TinyFolder& f) { f.json["config.json"]["tie_word_embeddings"] = false; },
         {"\"lm_head.weight\" is missing"}},
    }),
    [](const auto& test) {
      std::string name;
      for (const char c : std::string(test.param.what)) name += std::isalnum(c) ? c : '_';
      return name;
    });

TEST_F(HfFolder, NamesWhatIsMissing) {
  tiny_folder({}).write(folder_);
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"}) {
    std::filesystem::rename(folder_ + "/" + name, folder_ + "/aside");
    EXPECT_THAT(refusal(), AllOf(HasSubstr(name), HasSubstr("No such file")));
    std::filesystem::rename(folder_ + "/aside", folder_ + "/" + name);
  }
  EXPECT_EQ(refusal(), "");
}

TEST_F(HfFolder, AnIndexStaysInItsFolder) {
  TinyFolder folder = tiny_folder({});
  folder.shards = 2;
  for (const char* name : {"../model-1.safetensors", "/etc/passwd", "model.bin"}) {
    folder.write(folder_);
    json index = {{"weight_map", {{"model.norm.weight", name}}}};
    std::ofstream(folder_ + "/model.safetensors.index.json") << index.dump();
    EXPECT_THAT(refusal(), HasSubstr("not a safetensors file of this folder"));
  }
}

}  // namespace
}  // namespace ringtide::model

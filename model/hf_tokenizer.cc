#include "model/hf_tokenizer.h"

#include <algorithm>
#include <limits>

#include "model/file_tensor.h"
#include "model/pre_tokenizer.h"
#include "model/types.h"
#include "model/vocabulary.h"

namespace ringtide::model {
namespace {

using nlohmann::json;

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

std::string type_of(const JsonObject& o) { return o.require("type", o.string("type")); }

// The steps of a pre-tokenizer or the like, which may be a sequence.
std::vector<JsonObject> steps(const JsonObject& in, const std::string& key,
                              const std::string& members) {
  std::vector<JsonObject> all;
  const auto whole = in.object(key);
  if (!whole) return all;
  if (type_of(*whole) != "Sequence") return {*whole};
  const json* array = whole->array(members);
  if (array == nullptr) whole->fail(members, "is missing");
  for (const json& step : *array) all.emplace_back(step, in.owner(), key + ".");
  return all;
}

[[noreturn]] void refuse(const JsonObject& in, const std::string& key) {
  in.fail(key, "is written in a way that is not supported; convert the model to GGUF");
}

std::string_view pre_tokenizer_name(const JsonObject& in) {
  const std::vector<JsonObject> all = steps(in, "pre_tokenizer", "pretokenizers");
  if (all.empty() || all.size() > 2) refuse(in, "pre_tokenizer");
  const JsonObject& last = all.back();
  if (type_of(last) != "ByteLevel" || last.boolean("add_prefix_space").value_or(true)) {
    refuse(in, "pre_tokenizer");
  }
  const bool splits = last.boolean("use_regex").value_or(true);
  if (all.size() == 1 && splits) return "gpt-2";
  if (all.size() == 2 && splits && type_of(all[0]) == "Digits" &&
      all[0].boolean("individual_digits").value_or(false)) {
    return "smollm";
  }
  if (all.size() != 2 || splits || type_of(all[0]) != "Split" ||
      all[0].string("behavior").value_or("") != "Isolated" ||
      all[0].boolean("invert").value_or(false)) {
    refuse(in, "pre_tokenizer");
  }
  const auto pattern = all[0].object("pattern");
  const std::string expression = pattern ? pattern->string("Regex").value_or("") : "";
  const std::string_view name = PreTokenizer::name_of(expression);
  if (name.empty()) {
    in.fail("pre_tokenizer", "splits by " + model::quoted(expression) +
                                 ", which is not supported; convert the model to GGUF");
  }
  return name;
}

// How SentencePiece's BPE has spaces marked: by normalising (Llama 2, Gemma), or by Metaspace,
// which puts no space before a text that has one.
SpacePrefix space_prefix(const JsonObject& in) {
  SpacePrefix prefix = SpacePrefix::Never;
  bool marked = false;
  for (const JsonObject& step : steps(in, "normalizer", "normalizers")) {
    const auto pattern = step.object("pattern");
    if (type_of(step) == "Prepend" && step.string("prepend") == kSpaceMark) {
      prefix = SpacePrefix::Always;
    } else if (type_of(step) == "Replace" && pattern && pattern->string("String") == " " &&
               step.string("content") == kSpaceMark) {
      marked = true;
    } else {
      refuse(in, "normalizer");
    }
  }
  for (const JsonObject& step : steps(in, "pre_tokenizer", "pretokenizers")) {
    const std::string scheme = step.string("prepend_scheme").value_or("");
    const bool metaspace = type_of(step) == "Metaspace" && !marked &&
                           step.string("replacement") == kSpaceMark &&
                           !step.boolean("split").value_or(true);
    if (metaspace && (scheme == "first" || scheme == "always" || scheme == "never")) {
      marked = true;
      if (scheme != "never") prefix = SpacePrefix::UnlessThere;
      continue;
    }
    // Splitting at spaces finds none once they are marked.
    const auto pattern = step.object("pattern");
    if (type_of(step) != "Split" || !marked || !pattern || pattern->string("String") != " ") {
      refuse(in, "pre_tokenizer");
    }
  }
  if (!marked) refuse(in, "pre_tokenizer");
  return prefix;
}

// "a b", or ["a", "b"].
std::string merge_of(const JsonObject& model, const json& merge) {
  if (merge.is_string()) return merge.get<std::string>();
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    const std::string left = merge[0], right = merge[1];
    if ((left + right).find(' ') == std::string::npos) return left + " " + right;
  }
  model.fail("merges", "must hold pairs of strings without spaces");
}

class Builder {
 public:
  Builder(const JsonObject& in, int32_t vocabulary) : in_(in), vocabulary_(vocabulary) {}

  HfTokenizer build(const std::optional<JsonObject>& config,
                    const std::optional<JsonObject>& generation) {
    const auto model = in_.object("model");
    if (!model) in_.fail("model", "is missing");
    if (model->string("type").value_or("BPE") != "BPE") {
      model->fail("type", "is not \"BPE\", the only one supported");
    }
    read_kind(*model);
    read_tokens(*model);
    read_merges(*model);
    read_ends(config, generation);
    out_.tables.adds_bos = adds_bos();
    return std::move(out_);
  }

 private:
  std::string_view keep(std::string text) { return out_.strings.emplace_back(std::move(text)); }

  void read_kind(const JsonObject& model) {
    const bool fallback = model.boolean("byte_fallback").value_or(false);
    for (const char* key :
         {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"}) {
      const json* value = model.find(key);
      if (value == nullptr || *value == "" || *value == 0) continue;
      // With tokens for all bytes, no text is unknown.
      if (!fallback || key != std::string_view("unk_token")) refuse(model, key);
    }
    const bool whole = model.boolean("ignore_merges").value_or(false);
    out_.tables.whole_tokens_first = whole;
    if (fallback) {
      if (whole) refuse(model, "ignore_merges");
      out_.tables.model = "llama";
      out_.tables.space_prefix = space_prefix(in_);
      return;
    }
    // What Qwen2 normalises, text in another form than NFC, is encoded as it is.
    for (const JsonObject& step : steps(in_, "normalizer", "normalizers")) {
      if (type_of(step) != "NFC") refuse(in_, "normalizer");
    }
    out_.tables.model = "gpt2";
    out_.tables.pre = pre_tokenizer_name(in_);
  }

  // `id` is within the vocabulary, and nobody else's.
  void place(const JsonObject& in, const std::string& key, const json& id, const std::string& token,
             TokenKind kind) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(vocabulary_)) {
      in.fail(key, "gives " + model::quoted(token) + " an id that is none of the model's " +
                       std::to_string(vocabulary_));
    }
    const auto at = id.get<size_t>();
    if (out_.tables.tokens[at].data() != nullptr && out_.tables.tokens[at] != token) {
      in.fail(key, "gives id " + std::to_string(at) + " to " +
                       model::quoted(out_.tables.tokens[at]) + " and to " + model::quoted(token));
    }
    out_.tables.tokens[at] = keep(token);
    out_.tables.kinds[at] = static_cast<int32_t>(kind);
  }

  void read_tokens(const JsonObject& model) {
    out_.tables.tokens.resize(vocabulary_);
    out_.tables.kinds.assign(vocabulary_, static_cast<int32_t>(TokenKind::Unused));
    const auto vocab = model.object("vocab");
    if (!vocab) model.fail("vocab", "is missing");
    const bool fallback = out_.tables.model == "llama";
    for (const auto& [token, id] : vocab->value().items()) {
      const bool byte = fallback && byte_named(token) >= 0;
      place(model, "vocab", id, token, byte ? TokenKind::Byte : TokenKind::Normal);
    }
    if (const json* added = in_.array("added_tokens")) {
      for (const json& value : *added) {
        const JsonObject token(value, in_.owner(), "added_tokens.");
        for (const char* key : {"single_word", "lstrip", "rstrip"}) {
          if (token.boolean(key).value_or(false)) refuse(token, key);
        }
        const json* id = token.find("id");
        const std::string content = token.require("content", token.string("content"));
        // Runs of spaces that Gemma's file lists here are found by merging, too.
        const bool spaces = fallback && content.find(kSpaceMark) != std::string::npos;
        place(token, "id", id != nullptr ? *id : json(), content,
              token.boolean("special").value_or(false) ? TokenKind::Control
              : spaces                                 ? TokenKind::Normal
                                                       : TokenKind::UserDefined);
      }
    }
    for (size_t i = 0; i < out_.tables.tokens.size(); ++i) {
      std::string_view& token = out_.tables.tokens[i];
      if (token.data() == nullptr) token = keep("[unused " + std::to_string(i) + "]");
    }
  }

  void read_merges(const JsonObject& model) {
    const json* merges = model.array("merges");
    if (merges == nullptr) model.fail("merges", "is missing");
    for (const json& merge : *merges) out_.tables.merges.push_back(keep(merge_of(model, merge)));
  }

  TokenId id_of(std::string_view name) const {
    const auto& tokens = out_.tables.tokens;
    const auto found = std::ranges::find(tokens, name);
    return found == tokens.end() ? -1 : static_cast<TokenId>(found - tokens.begin());
  }

  // A token of tokenizer_config.json: its name, or an object with it.
  TokenId named(const JsonObject& config, const char* key) const {
    if (!config.has(key)) return -1;
    std::string name;
    if (config.find(key)->is_object()) {
      const auto object = config.object(key);
      name = object->require("content", object->string("content"));
    } else {
      name = *config.string(key);
    }
    const TokenId id = id_of(name);
    if (id < 0) config.fail(key, "is " + model::quoted(name) + ", which is no token");
    return id;
  }

  void read_ends(const std::optional<JsonObject>& config,
                 const std::optional<JsonObject>& generation) {
    if (config) {
      out_.tables.bos = named(*config, "bos_token");
      out_.tables.eos = named(*config, "eos_token");
    }
    if (!generation || !generation->has("eos_token_id")) return;
    const json& ids = *generation->find("eos_token_id");
    for (const json& id : ids.is_array() ? ids : json::array({ids})) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(vocabulary_)) {
        generation->fail("eos_token_id",
                         "holds an id that is none of the model's " + std::to_string(vocabulary_));
      }
      out_.tables.ends.push_back(id.get<TokenId>());
    }
    if (out_.tables.eos < 0 && !out_.tables.ends.empty()) out_.tables.eos = out_.tables.ends[0];
  }

  // Whether a text is begun by a special token, which then is bos.
  bool adds_bos() {
    bool adds = false;
    for (const JsonObject& step : steps(in_, "post_processor", "processors")) {
      if (type_of(step) == "ByteLevel") continue;
      if (type_of(step) != "TemplateProcessing") refuse(in_, "post_processor");
      const json* single = step.array("single");
      if (single == nullptr || single->empty() || single->size() > 2 ||
          !single->back().contains("Sequence")) {
        refuse(in_, "post_processor");
      }
      if (single->size() == 1) continue;
      const JsonObject part((*single)[0], in_.owner(), "post_processor.single.");
      const auto special = part.object("SpecialToken");
      if (!special) refuse(in_, "post_processor");
      const TokenId id = id_of(special->require("id", special->string("id")));
      if (id < 0 || (out_.tables.bos >= 0 && id != out_.tables.bos)) refuse(in_, "post_processor");
      out_.tables.bos = id;
      adds = true;
    }
    return adds;
  }

  const JsonObject& in_;
  const int32_t vocabulary_;
  HfTokenizer out_;
};

}  // namespace

HfTokenizer read_hf_tokenizer(const JsonObject& tokenizer, const std::optional<JsonObject>& config,
                              const std::optional<JsonObject>& generation, int32_t vocabulary) {
  return Builder(tokenizer, vocabulary).build(config, generation);
}

}  // namespace ringtide::model

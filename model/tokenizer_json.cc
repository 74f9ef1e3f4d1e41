#include "model/tokenizer_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "model/pre_tokenizer.h"
#include "model/tokenizer_tables.h"
#include "model/vocabulary.h"

namespace ringtide::model {
namespace {

using Json = nlohmann::json;

constexpr const char* kSpaceMark = "\xE2\x96\x81";

// Component `what` of the file, which is null where it is absent.
const Json& part(const Json& object, const char* what) {
  static const Json null;
  const auto found = object.find(what);
  return found == object.end() ? null : *found;
}

std::string type_of(const Json& component, const std::string& what) {
  const Json& type = part(component, "type");
  if (!type.is_string()) throw ModelError(what + ": a component has no \"type\"");
  return type.get<std::string>();
}

[[noreturn]] void unsupported(const std::string& what, const std::string& found) {
  throw ModelError(what + ": " + found + " is not supported");
}

// Throws unless `key` is absent, null or `value`.
void expect(const Json& component, const char* key, const Json& value, const std::string& what) {
  const Json& found = part(component, key);
  if (found.is_null() || found == value) return;
  unsupported(what, std::string(key) + " = " + found.dump());
}

bool flag(const Json& component, const char* key, bool absent, const std::string& what) {
  const Json& found = part(component, key);
  if (found.is_null()) return absent;
  if (!found.is_boolean()) throw ModelError(what + ": " + key + " is no boolean");
  return found.get<bool>();
}

std::string text_of(const Json& component, const char* key, const std::string& what) {
  const Json& found = part(component, key);
  if (!found.is_string()) throw ModelError(what + ": " + key + " is no string");
  return found.get<std::string>();
}

const Json& array_of(const Json& component, const char* key, const std::string& what) {
  const Json& found = part(component, key);
  if (!found.is_array()) throw ModelError(what + ": " + key + " is no array");
  return found;
}

// The components of a Sequence, or the one that there is, or none.
std::vector<Json> flat(const Json& component, const char* list, const std::string& what) {
  if (component.is_null()) return {};
  if (type_of(component, what) != "Sequence") return {component};
  const Json& parts = array_of(component, list, what);
  for (const Json& one : parts) {
    if (type_of(one, what) == "Sequence") unsupported(what, "a Sequence within a Sequence");
  }
  return parts;
}

// Owns what its tables look at.
class Reader {
 public:
  explicit Reader(const TokenizerFiles& files)
      : root_(parse(files.tokenizer, "tokenizer.json")),
        config_(files.tokenizer_config.empty()
                    ? Json::object()
                    : parse(files.tokenizer_config, "tokenizer_config.json")) {
    tables_.ends = files.ends;
  }

  FolderText run() {
    for (const auto& [key, value] : root_.items()) {
      if (std::find(std::begin(kKeys), std::end(kKeys), key) == std::end(kKeys)) {
        unsupported("tokenizer.json", "the component \"" + key + "\"");
      }
    }
    read_model();
    read_added();
    read_special();
    read_decoder();
    if (tables_.model == "llama") {
      read_spaces();
    } else {
      read_split();
    }
    for (const std::string& token : tokens_) tables_.tokens.push_back(token);
    for (const std::string& merge : merges_) tables_.merges.push_back(merge);
    return {make_tokenizer(tables_), chat_template()};
  }

 private:
  static constexpr const char* kKeys[] = {"version",        "truncation", "padding",
                                          "added_tokens",   "normalizer", "pre_tokenizer",
                                          "post_processor", "decoder",    "model"};

  static Json parse(std::string_view text, const char* name) {
    try {
      Json json = Json::parse(text);
      if (json.is_object()) return json;
    } catch (const Json::exception& error) {
      throw ModelError(std::string(name) + ": " + error.what());
    }
    throw ModelError(std::string(name) + ": no JSON object");
  }

  void read_model() {
    const std::string what = "tokenizer.json: model";
    const Json& model = part(root_, "model");
    if (!model.is_object()) throw ModelError(what + " is no object");
    const Json& type = part(model, "type");  // old files leave it out
    if (!type.is_null() && type != "BPE") unsupported(what, "the type " + type.dump());
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      expect(model, key, "", what);
    }
    expect(model, "dropout", 0.0, what);
    if (flag(model, "byte_fallback", false, what)) tables_.model = "llama";
    tables_.whole_tokens_first = flag(model, "ignore_merges", false, what);
    if (*tables_.whole_tokens_first && tables_.model == "llama") {
      unsupported(what, "ignore_merges with byte_fallback");
    }
    const Json& vocabulary = part(model, "vocab");
    if (!vocabulary.is_object()) throw ModelError(what + ": vocab is no object");
    for (const auto& [token, id] : vocabulary.items()) put(token, id, TokenKind::Normal);
    for (const Json& merge : array_of(model, "merges", what)) add_merge(merge);
  }

  void add_merge(const Json& merge) {
    if (merge.is_string()) {
      merges_.push_back(merge.get<std::string>());
      return;
    }
    const bool pair =
        merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    const std::string left = pair ? merge[0].get<std::string>() : "";
    const std::string right = pair ? merge[1].get<std::string>() : "";
    if (!pair || (left + right).find(' ') != std::string::npos) {
      throw ModelError("tokenizer.json: merge " + std::to_string(merges_.size()) +
                       " is not two tokens without spaces");
    }
    merges_.push_back(left + ' ' + right);
  }

  // The id of a token is below the number of entries in the file, so what is allocated is justified
  // by its size.
  void put(const std::string& token, const Json& id, TokenKind kind) {
    const size_t most =
        part(part(root_, "model"), "vocab").size() + part(root_, "added_tokens").size();
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= most) {
      throw ModelError("tokenizer.json: token " + shown(0, token).substr(2) + " has the id " +
                       id.dump() + "; ids are below the number of tokens");
    }
    const auto place = id.get<size_t>();
    if (place >= tokens_.size()) {
      tokens_.resize(place + 1);
      tables_.kinds.resize(place + 1, 0);
    }
    if (tables_.kinds[place] != 0 && tokens_[place] != token) {
      throw ModelError("tokenizer.json: two tokens have the id " + std::to_string(place));
    }
    if (tables_.model == "llama" && kind == TokenKind::Normal && byte_named(token) >= 0) {
      kind = TokenKind::Byte;
    }
    tokens_[place] = token;
    tables_.kinds[place] = static_cast<int32_t>(kind);
  }

  void read_added() {
    const std::string what = "tokenizer.json: added_tokens";
    const Json& added = part(root_, "added_tokens");
    if (!added.is_null() && !added.is_array()) throw ModelError(what + " is no array");
    for (const Json& token : added) {
      if (!token.is_object()) throw ModelError(what + ": an entry is no object");
      const std::string content = text_of(token, "content", what);
      for (const char* key : {"single_word", "lstrip", "rstrip"}) expect(token, key, false, what);
      const bool special = flag(token, "special", false, what);
      // Runs of spaces that Gemma's file lists here are found by merging, too.
      const bool spaces = content.find(kSpaceMark) != std::string::npos;
      put(content, part(token, "id"),
          special                              ? TokenKind::Control
          : spaces && tables_.model == "llama" ? TokenKind::Normal
                                               : TokenKind::UserDefined);
    }
    const auto gap = std::find(tables_.kinds.begin(), tables_.kinds.end(), 0);
    if (gap != tables_.kinds.end()) {
      throw ModelError("tokenizer.json: no token has the id " +
                       std::to_string(gap - tables_.kinds.begin()));
    }
  }

  TokenId id_of(const std::string& token, const char* key) const {
    const auto found = std::find(tokens_.begin(), tokens_.end(), token);
    if (found == tokens_.end()) {
      throw ModelError("tokenizer_config.json: " + std::string(key) + " \"" + token +
                       "\" is no token");
    }
    return static_cast<TokenId>(found - tokens_.begin());
  }

  // bos and eos, and whether a sequence starts with bos.
  void read_special() {
    const auto named = [&](const char* key) -> TokenId {
      const Json& token = part(config_, key);
      if (token.is_null()) return -1;
      return id_of(token.is_object() ? text_of(token, "content", "tokenizer_config.json")
                                     : text_of(config_, key, "tokenizer_config.json"),
                   key);
    };
    tables_.bos = named("bos_token");
    tables_.eos = named("eos_token");
    const std::optional<std::string> first = first_written();
    if (first && tables_.bos < 0) tables_.bos = id_of(*first, "bos_token");
    const bool written = first && id_of(*first, "bos_token") == tables_.bos;
    if (first && !written) unsupported("tokenizer.json: post_processor", "a first token " + *first);
    tables_.adds_bos = flag(config_, "add_bos_token", written, "tokenizer_config.json");
    for (const TokenId id : {tables_.bos, tables_.eos}) {
      if (id >= 0) tables_.kinds[id] = static_cast<int32_t>(TokenKind::Control);
    }
  }

  // The token that the post-processor writes before a text.
  std::optional<std::string> first_written() const {
    const std::string what = "tokenizer.json: post_processor";
    std::optional<std::string> first;
    for (const Json& one : flat(part(root_, "post_processor"), "processors", what)) {
      const std::string type = type_of(one, what);
      if (type == "ByteLevel") continue;
      if (type != "TemplateProcessing") unsupported(what, "the type \"" + type + "\"");
      const Json& single = array_of(one, "single", what);
      if (single.empty() || !single[0].is_object() || !single[0].contains("SpecialToken")) continue;
      first = text_of(single[0]["SpecialToken"], "id", what);
    }
    return first;
  }

  void read_decoder() const {
    const std::string what = "tokenizer.json: decoder";
    const bool bytes = tables_.model != "llama";
    for (const Json& one : flat(part(root_, "decoder"), "decoders", what)) {
      const std::string type = type_of(one, what);
      const bool known = bytes ? type == "ByteLevel"
                               : type == "Replace" || type == "ByteFallback" || type == "Fuse" ||
                                     type == "Strip" || type == "Metaspace";
      if (!known) unsupported(what, "the type \"" + type + "\"");
    }
  }

  // How byte-level text is split.
  void read_split() {
    for (const Json& one :
         flat(part(root_, "normalizer"), "normalizers", "tokenizer.json: normalizer")) {
      const std::string type = type_of(one, "tokenizer.json: normalizer");
      if (type != "NFC") unsupported("tokenizer.json: normalizer", "the type \"" + type + "\"");
    }
    const std::string what = "tokenizer.json: pre_tokenizer";
    bool bytes = false, digits = false;
    std::optional<std::string> expression;
    for (const Json& one : flat(part(root_, "pre_tokenizer"), "pretokenizers", what)) {
      const std::string type = type_of(one, what);
      if (bytes) unsupported(what, "the type \"" + type + "\" after ByteLevel");
      if (type == "ByteLevel") {
        bytes = true;
        if (flag(one, "add_prefix_space", true, what)) unsupported(what, "add_prefix_space = true");
        if (flag(one, "use_regex", true, what) == expression.has_value()) {
          unsupported(what, "a ByteLevel that splits after a Split, or does not without");
        }
      } else if (type == "Digits" && !digits && !expression) {
        digits = true;
        if (!flag(one, "individual_digits", false, what)) {
          unsupported(what, "individual_digits = false");
        }
      } else if (type == "Split" && !digits && !expression) {
        expression = text_of(part(one, "pattern"), "Regex", what + ": Split");
        expect(one, "behavior", "Isolated", what + ": Split");
        expect(one, "invert", false, what + ": Split");
      } else {
        unsupported(what, "the type \"" + type + "\", here");
      }
    }
    if (!bytes) unsupported(what, "BPE without ByteLevel or byte_fallback");
    tables_.pre = expression ? PreTokenizer::name_of(*expression) : digits ? "smollm" : "gpt-2";
  }

  // How SentencePiece's BPE has spaces marked.
  void read_spaces() {
    std::string what = "tokenizer.json: normalizer";
    bool replaced = false;
    for (const Json& one : flat(part(root_, "normalizer"), "normalizers", what)) {
      const std::string type = type_of(one, what);
      if (type == "Prepend" && part(one, "prepend") == kSpaceMark) {
        tables_.space_prefix = SpacePrefix::Always;
      } else if (type == "Replace" && part(part(one, "pattern"), "String") == " " &&
                 part(one, "content") == kSpaceMark) {
        replaced = true;
      } else {
        unsupported(what, "this " + type);
      }
    }
    what = "tokenizer.json: pre_tokenizer";
    for (const Json& one : flat(part(root_, "pre_tokenizer"), "pretokenizers", what)) {
      const std::string type = type_of(one, what);
      if (type == "Metaspace" && !replaced) {
        replaced = true;
        expect(one, "replacement", kSpaceMark, what);
        if (flag(one, "split", true, what)) unsupported(what, "a Metaspace that splits");
        const Json& scheme = part(one, "prepend_scheme");
        if (scheme == "first" || scheme == "always") {
          tables_.space_prefix = SpacePrefix::UnlessThere;
        } else if (scheme != "never") {
          unsupported(what, "prepend_scheme = " + scheme.dump());
        }
      } else if (type == "Split" && replaced && part(part(one, "pattern"), "String") == " ") {
        // Finds nothing, as there are no spaces any more.
      } else {
        unsupported(what, "the type \"" + type + "\", here");
      }
    }
    if (!replaced) unsupported(what, "byte_fallback without spaces marked by U+2581");
  }

  std::string chat_template() const {
    const Json& found = part(config_, "chat_template");
    if (found.is_null()) return "";
    if (found.is_string()) return found.get<std::string>();
    if (found.is_array()) {
      for (const Json& one : found) {
        if (one.is_object() && part(one, "name") == "default") {
          return text_of(one, "template", "tokenizer_config.json: chat_template");
        }
      }
    }
    throw ModelError(
        "tokenizer_config.json: chat_template is neither a string nor a list with one called "
        "\"default\"");
  }

  const Json root_, config_;
  std::vector<std::string> tokens_, merges_;
  TokenizerTables tables_;
};

}  // namespace

FolderText read_tokenizer_files(const TokenizerFiles& files) { return Reader(files).run(); }

}  // namespace ringtide::model

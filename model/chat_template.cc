#include "model/chat_template.h"

#include <algorithm>
#include <array>
#include <utility>

#include "model/jinja_text.h"

namespace ringtide::model {
namespace {

struct Turn {
  std::string open, close;
};

// What a family writes. "{bos}" and "{eos}" are the model's own.
struct Family {
  std::string name;
  std::vector<std::string> markers;
  std::array<Turn, 3> turns;  // by Role
  std::string user_after_system;
  bool begins_with_bos;
};

std::array<Turn, 3> for_roles(const std::string& before, const std::string& after,
                              const std::string& close) {
  return {{{before + "system" + after, close},
           {before + "user" + after, close},
           {before + "assistant" + after, close}}};
}

Family chatml() {
  return {"chatml",
          {"<|im_start|>", "<|im_end|>"},
          for_roles("<|im_start|>", "\n", "<|im_end|>\n"),
          "<|im_start|>user\n",
          false};
}

Family llama3() {
  return {"llama3",
          {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
          for_roles("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>"),
          "<|start_header_id|>user<|end_header_id|>\n\n",
          true};
}

Family zephyr() {
  return {"zephyr",
          {"<|system|>", "<|user|>", "<|assistant|>"},
          for_roles("<|", "|>\n", "{eos}\n"),
          "<|user|>\n",
          false};
}

Family gemma() {
  return {"gemma",
          {"<start_of_turn>", "<end_of_turn>"},
          {{{"<start_of_turn>user\n", "\n\n"},
            {"<start_of_turn>user\n", "<end_of_turn>\n"},
            {"<start_of_turn>model\n", "<end_of_turn>\n"}}},
          "",
          true};
}

// Every exchange of its own begins with bos.
Family llama2() {
  return {
      "llama2",
      {"[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"},
      {{{"{bos}[INST] <<SYS>>\n", "\n<</SYS>>\n\n"}, {"{bos}[INST] ", " [/INST]"}, {"", " {eos}"}}},
      "",
      false};
}

// Its versions differ in the spaces within the brackets.
Family mistral(std::string_view model_template) {
  const auto writes = [&](std::string_view text) {
    return model_template.empty() || model_template.find(text) != std::string_view::npos;
  };
  const std::string open = writes("[INST] ") ? "[INST] " : "[INST]";
  const std::string close = writes(" [/INST]") ? " [/INST]" : "[/INST]";
  return {
      "mistral", {"[INST]", "[/INST]"}, {{{open, "\n\n"}, {open, close}, {"", "{eos}"}}}, "", true};
}

std::vector<Family> known_families(std::string_view model_template) {
  return {chatml(), llama3(), llama2(), zephyr(), mistral(model_template), gemma()};
}

// The family whose markers a template has; empty: none of those known.
std::string recognise(std::string_view model_template) {
  const auto has = [&](std::string_view marker) {
    return model_template.find(marker) != std::string_view::npos;
  };
  if (has("<|im_start|>")) return "chatml";
  if (has("<|start_header_id|>")) return "llama3";
  if (has("<start_of_turn>")) return "gemma";
  if (has("[INST]")) return has("<<SYS>>") ? "llama2" : "mistral";
  // Others use the same role markers with an end marker of their own.
  if (has("<|user|>") && has("eos_token") && !has("<|end|>")) return "zephyr";
  return "";
}

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size()) {
    text.replace(at, what.size(), with);
  }
}

class FamilyTemplate final : public ChatTemplate {
 public:
  FamilyTemplate(Family family, std::string_view model_template, const Tokenizer& tokenizer)
      : name_(family.name) {
    name_ends(family, tokenizer);
    for (size_t role = 0; role < family.turns.size(); ++role) {
      open_[role] = tokens(family.turns[role].open, family.markers, tokenizer);
      close_[role] = tokens(family.turns[role].close, family.markers, tokenizer);
    }
    user_after_system_ = tokens(family.user_after_system, family.markers, tokenizer);
    const bool writes_bos = model_template.find("bos_token") != std::string_view::npos;
    if (tokenizer.bos() >= 0 && family.name != "llama2" &&
        (family.begins_with_bos || writes_bos || tokenizer.adds_bos())) {
      begin_ = {tokenizer.bos()};
    }
    default_system_ = find_system(family.turns[0], model_template);
  }

  std::string family() const override { return name_; }
  std::vector<TokenId> begin() const override { return begin_; }
  std::vector<TokenId> open(Role role) const override { return open_[static_cast<size_t>(role)]; }
  std::vector<TokenId> open_after_system(Role role) const override {
    return role == Role::User ? user_after_system_ : open(role);
  }
  std::vector<TokenId> close(Role role) const override { return close_[static_cast<size_t>(role)]; }
  std::string default_system() const override { return default_system_; }

 private:
  // Puts the names of the model's bos and eos into what the family writes.
  static void name_ends(Family& family, const Tokenizer& tokenizer) {
    const std::string bos(tokenizer.name(tokenizer.bos()));
    const std::string eos(tokenizer.name(tokenizer.eos()));
    for (Turn& turn : family.turns) {
      if (eos.empty() && turn.close.find("{eos}") != std::string::npos) {
        throw ModelError("the " + family.name +
                         " template ends turns with the model's eos token, and "
                         "tokenizer.ggml.eos_token_id names none; choose another family or raw");
      }
      replace_all(turn.open, "{bos}", bos);
      replace_all(turn.close, "{eos}", eos);
    }
    for (const std::string& name : {bos, eos}) {
      if (!name.empty()) family.markers.push_back(name);
    }
  }

  static std::vector<TokenId> tokens(std::string_view text, const std::vector<std::string>& markers,
                                     const Tokenizer& tokenizer) {
    std::vector<TokenId> out;
    size_t start = 0;  // of the literal text not encoded yet
    const auto encode_until = [&](size_t end) {
      const auto literal = tokenizer.encode(text.substr(start, end - start));
      out.insert(out.end(), literal.begin(), literal.end());
    };
    for (size_t at = 0; at < text.size();) {
      const auto marker = std::find_if(markers.begin(), markers.end(), [&](const auto& m) {
        return text.substr(at, m.size()) == m && tokenizer.special(m) >= 0;
      });
      if (marker == markers.end()) {
        ++at;
        continue;
      }
      encode_until(at);
      out.push_back(tokenizer.special(*marker));
      start = at += marker->size();
    }
    encode_until(text.size());
    return out;
  }

  // A system turn that stands in the template word for word.
  static std::string find_system(const Turn& system, std::string_view model_template) {
    std::string end = system.close;
    end.erase(end.find_last_not_of('\n') + 1);
    if (end.empty()) return "";
    for (const std::string& literal : jinja_literals(model_template)) {
      size_t from = literal.find(system.open);
      if (from == std::string::npos) continue;
      from += system.open.size();
      const size_t to = literal.find(end, from);
      if (to != std::string::npos && to > from) return literal.substr(from, to - from);
    }
    return "";
  }

  std::string name_;
  std::vector<TokenId> begin_;
  std::array<std::vector<TokenId>, 3> open_, close_;  // by Role
  std::vector<TokenId> user_after_system_;
  std::string default_system_;
};

std::string choices() {
  std::string list;
  for (const std::string& name : ChatTemplate::families()) {
    list += (list.empty() ? "" : ", ") + name;
  }
  return list;
}

}  // namespace

std::shared_ptr<const ChatTemplate> ChatTemplate::make(const std::string& family,
                                                       std::string_view model_template,
                                                       std::shared_ptr<const Tokenizer> tokenizer) {
  if (family == "raw" || (family == "auto" && model_template.empty())) return nullptr;
  const std::string wanted = family == "auto" ? recognise(model_template) : family;
  for (Family& known : known_families(model_template)) {
    if (known.name != wanted) continue;
    return std::make_shared<FamilyTemplate>(std::move(known), model_template, *tokenizer);
  }
  if (family == "auto") {
    throw ModelError("tokenizer.chat_template is of no family known here; choose one of " +
                     choices() + " (raw: no template)");
  }
  throw ModelError("no chat template is called \"" + family + "\"; choose auto or one of " +
                   choices() + " (raw: no template)");
}

std::vector<std::string> ChatTemplate::families() {
  std::vector<std::string> names;
  for (const Family& family : known_families("")) names.push_back(family.name);
  names.push_back("raw");
  return names;
}

}  // namespace ringtide::model

#include "model/chat_template.h"

#include <utility>

#include "model/chat_families.h"
#include "model/jinja.h"

namespace ringtide::model {
namespace {

std::string choices() {
  std::string list;
  for (const std::string& name : ChatTemplate::families()) {
    list += (list.empty() ? "" : ", ") + name;
  }
  return "choose one of " + list + " (model: its own; raw: no template)";
}

// Empty: there is no such family.
std::string_view source_of(const std::string& family, std::string_view model_template) {
  if (family == "auto" || family == "model") return model_template;
  for (const ChatFamily& known : chat_families()) {
    if (family == known.name) return known.source;
  }
  return {};
}

}  // namespace

std::vector<std::string> ChatTemplate::families() {
  std::vector<std::string> names = {"model"};
  for (const ChatFamily& family : chat_families()) names.emplace_back(family.name);
  names.push_back("raw");
  return names;
}

std::shared_ptr<const ChatTemplate> ChatTemplate::make(const std::string& family,
                                                       std::string_view model_template,
                                                       std::shared_ptr<const Tokenizer> tokenizer,
                                                       std::time_t now) {
  if (family == "raw" || (family == "auto" && model_template.empty())) return nullptr;
  const bool own = family == "auto" || family == "model";
  const std::string_view source = source_of(family, model_template);
  if (own && source.empty()) {
    throw ModelError("the model has no tokenizer.chat_template; " + choices());
  }
  if (source.empty()) {
    throw ModelError("no chat template is called \"" + family + "\"; " + choices());
  }
  try {
    if (tokenizer->name(tokenizer->eos()).empty() &&
        source.find("eos_token") != std::string_view::npos) {
      throw ModelError(
          "it writes the model's eos token, and tokenizer.ggml.eos_token_id names none");
    }
    ChatTurns turns = find_turns(jinja::Template(source), *tokenizer, now);
    return std::make_shared<const ChatTemplate>(own ? "model" : family, std::move(turns),
                                                std::move(tokenizer));
  } catch (const ModelError& error) {
    const std::string what = own ? "tokenizer.chat_template" : "the chat template " + family;
    throw ModelError(what + " cannot be used: " + error.what() + "; " + choices());
  }
}

ChatTemplate::ChatTemplate(std::string family, ChatTurns turns,
                           std::shared_ptr<const Tokenizer> tokenizer)
    : family_(std::move(family)), turns_(std::move(turns)), tokenizer_(std::move(tokenizer)) {
  add(turns_.next_user, true, next_user_);
  Lead answer, end;
  add(turns_.answer, true, answer);
  add(turns_.end, false, end);
  answer_ = std::move(answer.tokens);
  end_ = std::move(end.tokens);
}

ChatTemplate::Lead ChatTemplate::begin(std::string_view system) const {
  Lead lead{{}, TextAt::Start};
  if (system.empty()) {
    add(turns_.begin, true, lead);
  } else if (!turns_.no_system.empty()) {
    throw ModelError("the chat template " + family_ + " takes no system prompt (" +
                     turns_.no_system + "); leave it empty, or " + choices());
  } else {
    add(turns_.before_system, true, lead);
    const std::vector<TokenId> tokens = tokenizer_->encode(system, lead.text);
    lead.tokens.insert(lead.tokens.end(), tokens.begin(), tokens.end());
    lead.text = TextAt::Inside;
    add(turns_.after_system, true, lead);
  }
  // A template may leave the first token to the tokenizer.
  const TokenId bos = tokenizer_->bos();
  if (tokenizer_->adds_bos() && (lead.tokens.empty() || lead.tokens.front() != bos)) {
    lead.tokens.insert(lead.tokens.begin(), bos);
  }
  return lead;
}

void ChatTemplate::add(std::string_view written, bool text_follows, Lead& lead) const {
  size_t start = 0;  // of the literal text not encoded yet
  const auto encode_until = [&](size_t end) {
    if (end == start) return;
    const auto tokens = tokenizer_->encode(written.substr(start, end - start), lead.text);
    lead.tokens.insert(lead.tokens.end(), tokens.begin(), tokens.end());
    lead.text = TextAt::Inside;
  };
  for (size_t at = 0; at < written.size();) {
    const TokenId token = tokenizer_->special_at(written.substr(at));
    if (token < 0) {
      ++at;
      continue;
    }
    encode_until(at);
    lead.tokens.push_back(token);
    lead.text = TextAt::Start;
    start = at += tokenizer_->name(token).size();
  }
  const bool space =
      text_follows && tokenizer_->space_prefix() && written.substr(start).ends_with(' ');
  encode_until(written.size() - space);
  if (space) lead.text = TextAt::Start;
}

}  // namespace ringtide::model

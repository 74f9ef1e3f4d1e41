#include "actors/open_request.h"

#include <string_view>

#include "actors/session_log.h"
#include "model/chat_template.h"

namespace ringtide::actors {
namespace {

constexpr size_t kMaxName = 200;

// Length of the UTF-8 character at the front of `text`; 0 if it is not one, or cannot be printed.
size_t printable(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return lead >= 0x20 && lead != 0x7f ? 1 : 0;
  const size_t length = lead >= 0xc2 && lead < 0xe0   ? 2
                        : lead >= 0xe0 && lead < 0xf0 ? 3
                        : lead >= 0xf0 && lead < 0xf5 ? 4
                                                      : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  const bool wrong = (lead == 0xc2 && second < 0xa0) ||  // control characters
                     (lead == 0xe0 && second < 0xa0) || (lead == 0xed && second >= 0xa0) ||
                     (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second >= 0x90);
  return wrong ? 0 : length;
}

int32_t first_set(int32_t asked, int32_t fallback, int32_t own, int32_t unset) {
  return asked != unset ? asked : fallback != unset ? fallback : own;
}

model::HeadVote parse_vote(const std::string& name) {
  if (name == "sum") return model::HeadVote::Sum;
  if (name == "softmax") return model::HeadVote::Softmax;
  throw model::ModelError("policy vote '" + name + "' is unknown: use 'sum' or 'softmax'");
}

}  // namespace

std::string invalid(const protocol::OpenRequest& request) {
  if (request.must_exist && request.must_create) {
    return "a session cannot both have to exist and have to be new";
  }
  if (request.id != 0) return request.must_create ? "a new session has no id yet: give a name" : "";
  const std::string& name = request.name;
  if (name.empty() || name.size() > kMaxName) {
    return "a session's name has 1 to " + std::to_string(kMaxName) + " bytes";
  }
  for (size_t i = 0; i < name.size();) {
    const size_t length = printable(std::string_view(name).substr(i));
    if (length == 0)
      return "a session's name is printable UTF-8; byte " + std::to_string(i) +
             " of this one is not";
    i += length;
  }
  return "";
}

model::PolicyConfig policy_of(const protocol::Policy& asked, const protocol::Policy& fallback) {
  model::PolicyConfig config;
  const std::string& name = asked.name.empty() ? fallback.name : asked.name;
  if (!name.empty()) config.kind = model::parse_policy(name);
  config.window = first_set(asked.window, fallback.window, config.window, 0);
  config.sinks = first_set(asked.sinks, fallback.sinks, config.sinks, -1);
  config.unit = first_set(asked.unit, fallback.unit, config.unit, 0);
  config.block = first_set(asked.block, fallback.block, config.block, 0);
  config.select = first_set(asked.select, fallback.select, config.select, 0);
  config.representatives =
      first_set(asked.representatives, fallback.representatives, config.representatives, 0);
  config.probe = first_set(asked.probe, fallback.probe, config.probe, 0);
  const std::string& vote = asked.vote.empty() ? fallback.vote : asked.vote;
  if (!vote.empty()) config.vote = parse_vote(vote);
  model::validate(config);
  return config;
}

storage::Opened compose_opened(const Facts& facts, const protocol::OpenRequest& request) {
  storage::Opened opened;
  const model::PolicyConfig policy = policy_of(request.policy, facts.default_policy);
  const std::string why = facts.refusal ? facts.refusal(policy) : "";
  if (!why.empty()) throw model::ModelError("policy: " + why);
  opened.policy = to_record(policy);
  opened.model = facts.fingerprint;
  const std::string family = request.template_family.empty() ? "auto" : request.template_family;
  const auto chat = model::ChatTemplate::make(family, facts.chat_template, facts.tokenizer);
  opened.template_family = chat ? chat->family() : "raw";
  opened.system = request.system ? *request.system : chat ? chat->default_system() : "";
  if (chat) chat->begin(opened.system);  // the template may take none
  return opened;
}

}  // namespace ringtide::actors

// Renders a template for make_templates.py, which compares, and tells what it writes between the
// texts of a conversation: from JSON on standard input to JSON on standard output.
#include <iostream>

#include "model/chat_turns.h"
#include "model/jinja.h"
#include "tests/model/jinja_json.h"
#include "tests/model/text_fixture.h"

namespace {

using Json = nlohmann::ordered_json;

Json turns_of(const std::string& text, const Json& given) {
  using namespace ringtide::model;
  SmallVocabulary vocabulary({}, given["special"].get<std::vector<std::string>>());
  vocabulary.tables.bos = 256;
  vocabulary.tables.eos = 257;
  try {
    const ChatTurns turns =
        find_turns(jinja::Template(text), *vocabulary.make(), given["now"].get<std::time_t>());
    return {{"begin", turns.begin},
            {"before_system", turns.before_system},
            {"after_system", turns.after_system},
            {"no_system", turns.no_system},
            {"default_system", turns.default_system},
            {"answer", turns.answer},
            {"end", turns.end},
            {"next_user", turns.next_user}};
  } catch (const std::exception& error) {
    return {{"refused", error.what()}};
  }
}

}  // namespace

int main() {
  using ringtide::model::jinja::from_json;
  const Json given = Json::parse(std::cin);
  const std::string text = given["template"];
  Json out = Json::array();
  for (const Json& one : given["cases"]) {
    std::vector<std::pair<std::string, ringtide::model::jinja::Value>> variables;
    for (const auto& [name, value] : one.items()) variables.emplace_back(name, from_json(value));
    try {
      const ringtide::model::jinja::Template made(text);
      out.push_back({{"written", made.render(variables, given["now"].get<std::time_t>())}});
    } catch (const ringtide::model::jinja::Refusal& refusal) {
      out.push_back({{"refused", refusal.what()}});
    } catch (const ringtide::model::jinja::Error& error) {
      out.push_back({{"error", true}, {"why", error.what()}});
    }
  }
  std::cout << Json{{"cases", out}, {"turns", turns_of(text, given)}} << "\n";
}

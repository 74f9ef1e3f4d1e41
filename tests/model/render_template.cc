// Renders a template for make_templates.py, which compares: from JSON on standard input to JSON on
// standard output.
#include <iostream>

#include "model/jinja.h"
#include "tests/model/jinja_json.h"

int main() {
  using ringtide::model::jinja::from_json;
  using Json = nlohmann::ordered_json;
  const Json given = Json::parse(std::cin);
  Json out = Json::array();
  for (const Json& one : given["cases"]) {
    std::vector<std::pair<std::string, ringtide::model::jinja::Value>> variables;
    for (const auto& [name, value] : one.items()) variables.emplace_back(name, from_json(value));
    try {
      const ringtide::model::jinja::Template made(given["template"].get<std::string>());
      out.push_back({{"written", made.render(variables, given["now"].get<std::time_t>())}});
    } catch (const ringtide::model::jinja::Refusal& refusal) {
      out.push_back({{"refused", refusal.what()}});
    } catch (const ringtide::model::jinja::Error& error) {
      out.push_back({{"error", true}, {"why", error.what()}});
    }
  }
  std::cout << out << "\n";
}

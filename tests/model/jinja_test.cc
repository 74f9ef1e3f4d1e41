#include "model/jinja.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "tests/model/jinja_json.h"

namespace ringtide::model::jinja {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;
using Variables = std::vector<std::pair<std::string, Value>>;

// Against tests/fixtures/make_templates.py.
TEST(Jinja, WritesWhatPythonsWrites) {
  setenv("TZ", "UTC", 1);
  std::ifstream in(std::string(RINGTIDE_FIXTURES) + "/templates.json");
  const Json fixture = Json::parse(in);
  Variables variables;
  for (const auto& [name, value] : fixture["variables"].items()) {
    variables.emplace_back(name, from_json(value));
  }
  int written = 0;
  for (const Json& expected : fixture["cases"]) {
    const std::string source = expected["template"];
    Json result;
    std::string why;
    try {
      result = {{"written", Template(source).render(variables, fixture["now"].get<std::time_t>())}};
    } catch (const Refusal& refusal) {
      result = {{"refused", refusal.what()}};
    } catch (const Error& error) {
      result = {{"error", true}};
      why = error.what();
    }
    Json wanted = expected;
    wanted.erase("template");
    EXPECT_EQ(result, wanted) << source << " " << why;
    written += result.contains("written");
  }
  EXPECT_GT(written, 60);
}

std::string error_of(const std::string& source) {
  try {
    return "written: " + Template(source).render({{"n", 1}, {"text", "abc"}}, 0);
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Jinja, ErrorsTellLineAndName) {
  EXPECT_THAT(error_of("a\nb{{ n | rot13 }}"), AllOf(HasSubstr("line 2"), HasSubstr("rot13")));
  EXPECT_THAT(error_of("{{ n is prime }}"), HasSubstr("prime"));
  EXPECT_THAT(error_of("{{ text.explode() }}"), HasSubstr("explode"));
  EXPECT_THAT(error_of("{{ missing() }}"), HasSubstr("missing"));
  EXPECT_THAT(error_of("{{ missing.part }}"), HasSubstr("missing"));
  EXPECT_THAT(error_of("{% include 'x' %}"), HasSubstr("{% include %} is not supported"));
  EXPECT_THAT(error_of("\n\n{% if n %}"), AllOf(HasSubstr("line 3"), HasSubstr("endif")));
  EXPECT_THAT(error_of("{{ 'abc }}"), HasSubstr("a string does not end"));
  EXPECT_THAT(error_of("{{ n $ 1 }}"), HasSubstr("$"));
  EXPECT_THAT(error_of("{{ n | tojson(separators=1) }}"), HasSubstr("separators"));
  EXPECT_THAT(error_of("{% macro f(a) %}{% endmacro %}{{ f(b=1) }}"), HasSubstr("does not take b"));
  EXPECT_THAT(error_of(std::string(300000, ' ')), HasSubstr("256 KiB"));
  EXPECT_THAT(error_of("{{ 99999999999999999999 }}"), HasSubstr("too large"));
}

TEST(Jinja, NothingRunsForever) {
  const char* doubling = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}";
  const std::string sources[] = {
      std::string(
          "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"),
      std::string("{{ range(999999999) }}"),
      std::string("{{ 'abcdefgh' * 999999999 }}"),
      doubling + std::string("{% set ns.x = ns.x + ns.x %}{% endfor %}"),
      doubling + std::string("{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}"),
      doubling +
          std::string("{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x | tojson }}"),
      doubling + std::string("{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == [ns.x] }}"),
      std::string("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
      std::string("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}"),
      std::string("{% set ns = namespace() %}{% set ns.x = ns %}"),
      std::string("{% set ns = namespace() %}{% set ns.x = [ns] %}"),
      std::string("{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x] "
                  "%}{% endfor %}"),
      "{{ " + std::string(100000, '(') + " }}",
      "{{ " + std::string(100000, '-') + "n }}",
      "{{ n" + std::string(100000, '|') + " }}",
      [] {
        std::string sum = "{{ 1";
        for (int i = 0; i < 100000; ++i) sum += " + 1";
        return sum + " }}";
      }(),
      [] {
        std::string nested;
        for (int i = 0; i < 100000; ++i) nested += "{% if n %}";
        return nested;
      }(),
  };
  for (const std::string& source : sources) {
    EXPECT_THAT(error_of(source), Not(HasSubstr("written"))) << source.substr(0, 80);
  }
}

}  // namespace
}  // namespace ringtide::model::jinja

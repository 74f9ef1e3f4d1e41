#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <utility>

#include "model/jinja_lexer.h"
#include "model/jinja_syntax.h"

namespace ringtide::model::jinja {
namespace {

using Kind = Node::Kind;

// What a tree takes is some hundred times its source.
constexpr size_t kMaxSource = 256 << 10;

// Trees are walked recursively.
constexpr int kMaxDepth = 200;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(read_tokens(source)) {}

  NodePtr run() {
    NodePtr body = parse_body({});
    if (now().kind != Token::Kind::End) fail("unexpected {% " + ahead(1).text + " %}");
    return body;
  }

 private:
  struct Deeper {
    explicit Deeper(Parser& p) : parser(p) {
      if (++parser.depth_ > kMaxDepth) parser.fail("nested too deep");
    }
    ~Deeper() { --parser.depth_; }
    Parser& parser;
  };

  // -- words ----

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead(size_t n) const { return tokens_[std::min(at_ + n, tokens_.size() - 1)]; }
  Token take() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error("line " + std::to_string(now().line) + ": " + what);
  }
  static bool is(const Token& token, Token::Kind kind, std::string_view text) {
    return token.kind == kind && token.text == text;
  }
  bool is_operator(std::string_view text) const { return is(now(), Token::Kind::Operator, text); }
  bool is_name(std::string_view text) const { return is(now(), Token::Kind::Name, text); }
  bool take_operator(std::string_view text) {
    if (!is_operator(text)) return false;
    take();
    return true;
  }
  bool take_name(std::string_view text) {
    if (!is_name(text)) return false;
    take();
    return true;
  }
  void expect_operator(std::string_view text) {
    if (!take_operator(text)) fail("expected \"" + std::string(text) + "\"" + found());
  }
  void expect_close() {
    if (now().kind != Token::Kind::Close) fail("expected the end of the tag" + found());
    take();
  }
  std::string expect_name() {
    if (now().kind != Token::Kind::Name) fail("expected a name" + found());
    return take().text;
  }
  std::string found() const {
    if (now().kind == Token::Kind::End) return ", and the template ends";
    return now().text.empty() ? "" : ", not \"" + now().text + "\"";
  }

  template <class... Parts>
  NodePtr make(Kind kind, Parts... parts) {
    auto node = std::make_unique<Node>();
    node->kind = kind;
    node->line = now().line;
    (add(*node, std::move(parts)), ...);
    return node;
  }
  void add(Node& node, NodePtr part) {
    if (part) node.depth = std::max(node.depth, part->depth + 1);
    if (node.depth > kMaxDepth) fail("nested too deep");
    node.parts.push_back(std::move(part));
  }

  // -- statements ----

  // Up to a block that starts with one of `ends`, which is not taken.
  NodePtr parse_body(std::initializer_list<std::string_view> ends) {
    const Deeper deeper(*this);
    NodePtr body = make(Kind::Body);
    while (now().kind != Token::Kind::End) {
      if (now().kind == Token::Kind::Text) {
        NodePtr text = make(Kind::Text);
        text->text = take().text;
        add(*body, std::move(text));
      } else if (now().kind == Token::Kind::Output) {
        take();
        NodePtr output = make(Kind::Output, parse_tuple());
        expect_close();
        add(*body, std::move(output));
      } else {
        for (const std::string_view end : ends) {
          if (is(ahead(1), Token::Kind::Name, end)) return body;
        }
        take();
        add(*body, parse_statement());
      }
    }
    if (ends.size() > 0) fail("{% " + std::string(*(ends.end() - 1)) + " %} is missing");
    return body;
  }

  void end_block(std::string_view name) {
    take();
    if (!take_name(name)) fail("expected " + std::string(name));
    expect_close();
  }

  NodePtr parse_statement() {
    const std::string name = expect_name();
    if (name == "if") return parse_if();
    if (name == "for") return parse_for();
    if (name == "set") return parse_set();
    if (name == "macro") return parse_macro();
    if (name == "generation") {  // marks what a trainer looks at
      expect_close();
      NodePtr body = parse_body({"endgeneration"});
      end_block("endgeneration");
      return body;
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) fail(name + " outside of a loop");
      expect_close();
      return make(name == "break" ? Kind::Break : Kind::Continue);
    }
    fail("{% " + name + " %} is not supported; if, for, set, macro, break, continue are");
  }

  NodePtr parse_if() {
    NodePtr node = make(Kind::If);
    add(*node, parse_expression());
    expect_close();
    while (true) {
      add(*node, parse_body({"elif", "else", "endif"}));
      take();
      if (take_name("elif")) {
        add(*node, parse_expression());
        expect_close();
      } else if (take_name("else")) {
        expect_close();
        add(*node, parse_body({"endif"}));
        end_block("endif");
        return node;
      } else {
        take();
        expect_close();
        return node;
      }
    }
  }

  NodePtr parse_for() {
    NodePtr node = make(Kind::For);
    const bool brackets = take_operator("(");
    do {
      node->words.push_back(expect_name());
    } while (take_operator(","));
    if (brackets) expect_operator(")");
    if (!take_name("in")) fail("expected \"in\"" + found());
    add(*node, parse_or());
    add(*node, take_name("if") ? parse_expression() : nullptr);
    if (is_name("recursive")) fail("recursive loops are not supported");
    expect_close();
    ++loops_;
    add(*node, parse_body({"else", "endfor"}));
    --loops_;
    take();
    if (take_name("else")) {
      expect_close();
      add(*node, parse_body({"endfor"}));
      end_block("endfor");
    } else {
      take();
      expect_close();
      add(*node, nullptr);
    }
    return node;
  }

  NodePtr parse_set() {
    NodePtr node = make(Kind::Set);
    node->words.push_back(expect_name());
    if (take_operator(".")) {
      node->kind = Kind::SetField;
      node->words.push_back(expect_name());
    }
    while (node->kind == Kind::Set && take_operator(",")) node->words.push_back(expect_name());
    if (take_operator("=")) {
      add(*node, parse_tuple());
      expect_close();
      return node;
    }
    if (node->kind != Kind::Set || node->words.size() > 1) fail("expected \"=\"" + found());
    expect_close();
    node->kind = Kind::SetBlock;
    add(*node, parse_body({"endset"}));
    end_block("endset");
    return node;
  }

  NodePtr parse_macro() {
    NodePtr node = make(Kind::Macro);
    node->text = expect_name();
    expect_operator("(");
    std::vector<NodePtr> defaults;
    while (!take_operator(")")) {
      if (!node->words.empty()) expect_operator(",");
      node->words.push_back(expect_name());
      defaults.push_back(take_operator("=") ? parse_expression() : nullptr);
    }
    expect_close();
    const int loops = std::exchange(loops_, 0);
    add(*node, parse_body({"endmacro"}));
    loops_ = loops;
    end_block("endmacro");
    for (NodePtr& value : defaults) add(*node, std::move(value));
    return node;
  }

  // -- expressions ----

  // One expression, or several with commas.
  NodePtr parse_tuple() {
    NodePtr first = parse_expression();
    if (!is_operator(",")) return first;
    NodePtr list = make(Kind::Tuple, std::move(first));
    while (take_operator(",")) {
      if (now().kind == Token::Kind::Close) break;
      add(*list, parse_expression());
    }
    return list;
  }

  NodePtr parse_expression() {
    const Deeper deeper(*this);
    NodePtr value = parse_or();
    while (take_name("if")) {
      NodePtr condition = parse_or();
      NodePtr other = take_name("else") ? parse_expression() : nullptr;
      value = make(Kind::Choose, std::move(condition), std::move(value), std::move(other));
    }
    return value;
  }

  NodePtr parse_or() {
    NodePtr left = parse_and();
    while (take_name("or")) left = make(Kind::Or, std::move(left), parse_and());
    return left;
  }

  NodePtr parse_and() {
    NodePtr left = parse_not();
    while (take_name("and")) left = make(Kind::And, std::move(left), parse_not());
    return left;
  }

  NodePtr parse_not() {
    const Deeper deeper(*this);
    return take_name("not") ? make(Kind::Not, parse_not()) : parse_compare();
  }

  NodePtr parse_compare() {
    NodePtr left = parse_sum();
    NodePtr chain;
    while (true) {
      std::string op;
      if (now().kind == Token::Kind::Operator &&
          (now().text == "==" || now().text == "!=" || now().text == "<" || now().text == ">" ||
           now().text == "<=" || now().text == ">=")) {
        op = take().text;
      } else if (take_name("in")) {
        op = "in";
      } else if (is_name("not") && is(ahead(1), Token::Kind::Name, "in")) {
        take();
        take();
        op = "not in";
      } else {
        return chain ? std::move(chain) : std::move(left);
      }
      if (!chain) chain = make(Kind::Compare, std::move(left));
      chain->words.push_back(op);
      add(*chain, parse_sum());
    }
  }

  NodePtr parse_sum() { return parse_binary({"+", "-"}, &Parser::parse_joined); }
  NodePtr parse_joined() { return parse_binary({"~"}, &Parser::parse_product); }
  NodePtr parse_product() { return parse_binary({"*", "/", "//", "%"}, &Parser::parse_unary); }

  NodePtr parse_binary(std::initializer_list<std::string_view> ops, NodePtr (Parser::*below)()) {
    NodePtr left = (this->*below)();
    while (true) {
      std::string op;
      for (const std::string_view one : ops) {
        if (op.empty() && take_operator(one)) op = one;
      }
      if (op.empty()) return left;
      left = make(Kind::Binary, std::move(left), (this->*below)());
      left->text = op;
    }
  }

  NodePtr parse_unary() { return parse_filtered(parse_signed()); }

  // A sign binds tighter than a filter.
  NodePtr parse_signed() {
    const Deeper deeper(*this);
    if (take_operator("-")) return make(Kind::Negate, parse_signed());
    if (take_operator("+")) return make(Kind::Plus, parse_signed());
    return parse_postfix(parse_primary());
  }

  NodePtr parse_filtered(NodePtr value) {
    while (true) {
      if (take_operator("|")) {
        NodePtr filter = make(Kind::Filter, std::move(value));
        filter->text = expect_name();
        if (take_operator("(")) parse_arguments(*filter);
        value = std::move(filter);
      } else if (take_name("is")) {
        const bool negated = take_name("not");
        NodePtr test = make(Kind::Test, std::move(value));
        test->text = expect_name();
        if (take_operator("(")) {
          parse_arguments(*test);
        } else if (takes_argument(test->text) && now().kind != Token::Kind::Close) {
          add(*test, parse_postfix(parse_primary()));
        }
        value = negated ? make(Kind::Not, std::move(test)) : std::move(test);
      } else {
        return value;
      }
    }
  }

  static bool takes_argument(std::string_view test) {
    for (const std::string_view one :
         {"equalto", "eq", "ne", "in", "divisibleby", "sameas", "lt", "gt", "le", "ge"}) {
      if (test == one) return true;
    }
    return false;
  }

  NodePtr parse_postfix(NodePtr value) {
    while (true) {
      if (take_operator(".")) {
        NodePtr field = make(Kind::Attribute, std::move(value));
        if (now().kind == Token::Kind::Integer) fail("a number after a dot is not supported");
        field->text = expect_name();
        value = std::move(field);
      } else if (take_operator("[")) {
        value = parse_index(std::move(value));
      } else if (take_operator("(")) {
        value = make(Kind::Call, std::move(value));
        parse_arguments(*value);
      } else {
        return value;
      }
    }
  }

  NodePtr parse_index(NodePtr value) {
    NodePtr bounds[3];
    int colons = 0;
    while (!is_operator("]")) {
      if (take_operator(":")) {
        if (++colons > 2) fail("a slice has at most two colons");
      } else {
        if (bounds[colons]) fail("expected \"]\"" + found());
        bounds[colons] = parse_expression();
      }
    }
    take();
    if (colons > 0) {
      return make(Kind::Slice, std::move(value), std::move(bounds[0]), std::move(bounds[1]),
                  std::move(bounds[2]));
    }
    if (!bounds[0]) fail("an index is missing");
    return make(Kind::Index, std::move(value), std::move(bounds[0]));
  }

  // After the bracket that opens them.
  void parse_arguments(Node& call) {
    bool first = true;
    while (!take_operator(")")) {
      if (!std::exchange(first, false)) {
        expect_operator(",");
        if (take_operator(")")) return;
      }
      if (now().kind == Token::Kind::Name && is(ahead(1), Token::Kind::Operator, "=")) {
        call.words.push_back(take().text);
        take();
      } else if (!call.words.empty()) {
        fail("an argument without a name after one with");
      }
      if (is_operator("*")) fail("* before an argument is not supported");
      add(call, parse_expression());
    }
  }

  NodePtr literal(Value value) {
    NodePtr node = make(Kind::Literal);
    node->value = std::move(value);
    return node;
  }

  NodePtr parse_primary() {
    const Deeper deeper(*this);
    switch (now().kind) {
      case Token::Kind::String: {
        std::string text = take().text;
        while (now().kind == Token::Kind::String) text += take().text;
        return literal(std::move(text));
      }
      case Token::Kind::Integer: {
        int64_t number = 0;
        const std::string text = take().text;
        const auto end = text.data() + text.size();
        if (std::from_chars(text.data(), end, number).ec != std::errc()) {
          fail("the number " + text + " is too large");
        }
        return literal(number);
      }
      case Token::Kind::Float: {
        const double number = std::strtod(take().text.c_str(), nullptr);
        if (!std::isfinite(number)) fail("a number too large");
        return literal(number);
      }
      case Token::Kind::Name: {
        const std::string name = take().text;
        if (name == "true" || name == "True") return literal(true);
        if (name == "false" || name == "False") return literal(false);
        if (name == "none" || name == "None") return literal(None{});
        NodePtr node = make(Kind::Name);
        node->text = name;
        return node;
      }
      default:
        break;
    }
    if (take_operator("(")) return parse_brackets();
    if (take_operator("[")) {
      NodePtr list = make(Kind::List);
      while (!take_operator("]")) {
        if (!list->parts.empty()) {
          expect_operator(",");
          if (take_operator("]")) break;
        }
        add(*list, parse_expression());
      }
      return list;
    }
    if (take_operator("{")) {
      NodePtr dict = make(Kind::Dict);
      while (!take_operator("}")) {
        if (!dict->parts.empty()) {
          expect_operator(",");
          if (take_operator("}")) break;
        }
        add(*dict, parse_expression());
        expect_operator(":");
        add(*dict, parse_expression());
      }
      return dict;
    }
    fail("expected an expression" + found());
  }

  // A tuple, or just an expression in brackets.
  NodePtr parse_brackets() {
    if (take_operator(")")) return make(Kind::Tuple);
    NodePtr first = parse_expression();
    if (take_operator(")")) return first;
    NodePtr list = make(Kind::Tuple, std::move(first));
    while (!take_operator(")")) {
      expect_operator(",");
      if (take_operator(")")) break;
      add(*list, parse_expression());
    }
    return list;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

NodePtr parse(std::string_view source) {
  if (source.size() > kMaxSource) throw Error("it has more than 256 KiB");
  return Parser(source).run();
}

}  // namespace ringtide::model::jinja

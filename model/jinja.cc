#include "model/jinja.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "model/jinja_builtins.h"

namespace ringtide::model::jinja {
namespace {

using Kind = Node::Kind;
using Scope = std::vector<std::pair<std::string, Value>>;

constexpr int64_t kBudget = 4'000'000;  // steps, bytes and items
constexpr int kMaxDepth = 500;          // of calls of the interpreter by itself

enum class Flow { Next, Break, Continue };

class Interpreter {
 public:
  Interpreter(Scope variables, std::time_t now) : now_(now) {
    scopes_.push_back(std::move(variables));
  }

  std::string run(const Node& root) {
    try {
      execute(root);
    } catch (const Refusal&) {
      throw;
    } catch (const Error& error) {
      throw Error("line " + std::to_string(line_) + ": " + error.what());
    }
    return std::move(out_);
  }

 private:
  // At the beginning of every step.
  struct Deeper {
    Deeper(Interpreter& i, const Node& node) : interpreter(i) {
      i.meter_.charge(1);
      i.line_ = node.line;
      if (++i.depth_ > kMaxDepth) throw Error("macros call each other too deep");
    }
    ~Deeper() { --interpreter.depth_; }
    Interpreter& interpreter;
  };

  // -- statements ----

  void write(std::string_view text) {
    meter_.charge(text.size());
    out_ += text;
  }

  Flow execute(const Node& node) {
    const Deeper deeper(*this, node);
    switch (node.kind) {
      case Kind::Text:
        write(node.text);
        return Flow::Next;
      case Kind::Output:
        write(text_of(evaluate(*node.parts[0])));
        return Flow::Next;
      case Kind::Body:
        for (const NodePtr& part : node.parts) {
          if (const Flow flow = execute(*part); flow != Flow::Next) return flow;
        }
        return Flow::Next;
      case Kind::If:
        for (size_t i = 0; i + 1 < node.parts.size(); i += 2) {
          if (evaluate(*node.parts[i]).truth()) return execute(*node.parts[i + 1]);
        }
        return node.parts.size() % 2 == 1 ? execute(*node.parts.back()) : Flow::Next;
      case Kind::For:
        return loop(node);
      case Kind::Set:
        assign(node.words, evaluate(*node.parts[0]));
        return Flow::Next;
      case Kind::SetField: {
        const Value object = lookup(node.words[0]);
        if (!object.dict() || !object.dict()->is_namespace) {
          throw Error("only fields of a namespace can be set, not of " + object.kind());
        }
        meter_.charge(object.dict()->items.size());
        object.set(node.words[1], evaluate(*node.parts[0]));
        return Flow::Next;
      }
      case Kind::SetBlock:
        define(node.words[0], captured([&] { execute(*node.parts[0]); }));
        return Flow::Next;
      case Kind::Macro:
        define(node.text, Function{node.text, &node});
        return Flow::Next;
      case Kind::Break:
        return Flow::Break;
      case Kind::Continue:
        return Flow::Continue;
      default:
        throw Error("an expression where a statement should be");
    }
  }

  std::string text_of(const Value& value) {
    meter_.charge(value.weight());
    return value.text();
  }

  template <class Act>
  std::string captured(const Act& act) {
    std::string outer = std::exchange(out_, {});
    act();
    return std::exchange(out_, std::move(outer));
  }

  void define(const std::string& name, Value value) {
    for (auto& [known, old] : scopes_.back()) {
      if (known == name) {
        old = std::move(value);
        return;
      }
    }
    scopes_.back().emplace_back(name, std::move(value));
  }

  void assign(const std::vector<std::string>& names, const Value& value) {
    if (names.size() == 1) return define(names[0], value);
    const std::vector<Value> items = items_of(value, meter_);
    if (items.size() != names.size()) {
      throw Error(std::to_string(items.size()) + " values for " + std::to_string(names.size()) +
                  " names");
    }
    for (size_t i = 0; i < names.size(); ++i) define(names[i], items[i]);
  }

  Flow loop(const Node& node) {
    std::vector<Value> items = items_of(evaluate(*node.parts[0]), meter_);
    if (node.parts[1]) {
      std::vector<Value> kept;
      for (const Value& item : items) {
        scopes_.emplace_back();
        assign(node.words, item);
        if (evaluate(*node.parts[1]).truth()) kept.push_back(item);
        scopes_.pop_back();
      }
      items = std::move(kept);
    }
    for (size_t i = 0; i < items.size(); ++i) {
      scopes_.emplace_back();
      define("loop", loop_variable(items, i));
      assign(node.words, items[i]);
      const Flow flow = execute(*node.parts[2]);
      scopes_.pop_back();
      if (flow == Flow::Break) break;
    }
    if (!items.empty() || !node.parts[3]) return Flow::Next;
    return execute(*node.parts[3]);
  }

  static Value loop_variable(const std::vector<Value>& items, size_t at) {
    const auto index = static_cast<int64_t>(at), count = static_cast<int64_t>(items.size());
    Scope fields = {{"index", index + 1},
                    {"index0", index},
                    {"revindex", count - index},
                    {"revindex0", count - index - 1},
                    {"first", at == 0},
                    {"last", at + 1 == items.size()},
                    {"length", count}};
    const auto neighbour = [&](const char* name, size_t place) {
      if (place >= items.size()) return;
      if (items[place].dict() && items[place].dict()->is_namespace) return;
      fields.emplace_back(name, items[place]);
    };
    neighbour("previtem", at - 1);
    neighbour("nextitem", at + 1);
    return Value::dict(std::move(fields));
  }

  // -- expressions ----

  Value lookup(const std::string& name) {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      // A macro sees its own scopes and the outermost.
      if (std::distance(scope, scopes_.rend()) <= static_cast<ptrdiff_t>(base_) &&
          scope + 1 != scopes_.rend()) {
        continue;
      }
      meter_.charge(1);
      for (const auto& [known, value] : *scope) {
        if (known != name) continue;
        if (value.string()) meter_.charge(value.string()->size());
        return value;
      }
    }
    if (is_function(name)) return Function{name};
    return Undefined{name};
  }

  Value evaluate(const Node& node) {
    const Deeper deeper(*this, node);
    switch (node.kind) {
      case Kind::Literal:
        meter_.charge(node.value.weight());
        return node.value;
      case Kind::Name:
        return lookup(node.text);
      case Kind::List:
      case Kind::Tuple: {
        std::vector<Value> items;
        for (const NodePtr& part : node.parts) items.push_back(evaluate(*part));
        return node.kind == Kind::List ? Value::list(std::move(items))
                                       : Value::tuple(std::move(items));
      }
      case Kind::Dict:
        return dict(node);
      case Kind::Attribute:
        return item_of(evaluate(*node.parts[0]), node.text);
      case Kind::Index: {
        const Value object = evaluate(*node.parts[0]);
        if (object.string()) meter_.charge(object.string()->size());
        return item_of(object, evaluate(*node.parts[1]));
      }
      case Kind::Slice:
        return slice(node);
      case Kind::Call:
        return call(node);
      case Kind::Filter: {
        const Value value = evaluate(*node.parts[0]);
        return apply_filter(node.text, value, arguments(node), meter_);
      }
      case Kind::Test:
        return apply_test(node.text, evaluate(*node.parts[0]), arguments(node), meter_);
      case Kind::Not:
        return !evaluate(*node.parts[0]).truth();
      case Kind::And: {
        Value left = evaluate(*node.parts[0]);
        return left.truth() ? evaluate(*node.parts[1]) : left;
      }
      case Kind::Or: {
        Value left = evaluate(*node.parts[0]);
        return left.truth() ? left : evaluate(*node.parts[1]);
      }
      case Kind::Choose:
        if (evaluate(*node.parts[0]).truth()) return evaluate(*node.parts[1]);
        return node.parts[2] ? evaluate(*node.parts[2]) : Value(Undefined{""});
      case Kind::Compare:
        return compared(node);
      case Kind::Negate:
      case Kind::Plus:
        return signed_number(evaluate(*node.parts[0]), node.kind == Kind::Negate);
      case Kind::Binary: {
        const Value left = evaluate(*node.parts[0]);
        return binary(node.text, left, evaluate(*node.parts[1]));
      }
      default:
        throw Error("a statement where an expression should be");
    }
  }

  Value dict(const Node& node) {
    Scope items;
    for (size_t i = 0; i + 1 < node.parts.size(); i += 2) {
      const Value key = evaluate(*node.parts[i]);
      if (!key.string()) throw Error("keys of a mapping are strings here, not " + key.kind());
      meter_.charge(items.size());
      items.emplace_back(*key.string(), evaluate(*node.parts[i + 1]));
    }
    return Value::dict(std::move(items));
  }

  Value slice(const Node& node) {
    const Value object = evaluate(*node.parts[0]);
    std::optional<int64_t> bounds[3];
    for (int i = 0; i < 3; ++i) {
      if (!node.parts[i + 1]) continue;
      const Value bound = evaluate(*node.parts[i + 1]);
      if (bound.is_none()) continue;
      const int64_t* number = bound.as<int64_t>();
      if (number == nullptr) throw Error("bounds of a slice are numbers, not " + bound.kind());
      bounds[i] = std::clamp<int64_t>(*number, -(int64_t{1} << 40), int64_t{1} << 40);
    }
    if (!object.list() && !object.string()) throw Error(object.kind() + " has no slices");
    const std::vector<Value> items = items_of(object, meter_);
    const auto count = static_cast<int64_t>(items.size());
    const int64_t step = bounds[2].value_or(1);
    if (step == 0) throw Error("a slice needs a step that is not 0");
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? count : count - 1;
    const auto place = [&](std::optional<int64_t> bound, int64_t fallback) {
      if (!bound) return fallback;
      return std::clamp(*bound < 0 ? *bound + count : *bound, low, high);
    };
    const int64_t end = place(bounds[1], step > 0 ? count : -1);
    std::vector<Value> out;
    for (int64_t i = place(bounds[0], step > 0 ? 0 : count - 1); step > 0 ? i < end : i > end;
         i += step) {
      out.push_back(items[i]);
    }
    if (const List* list = object.list()) {
      return list->is_tuple ? Value::tuple(std::move(out)) : Value::list(std::move(out));
    }
    std::string text;
    for (const Value& item : out) text += *item.string();
    return text;
  }

  Arguments arguments(const Node& node) {
    Arguments out;
    const size_t named = node.parts.size() - node.words.size();
    for (size_t i = 1; i < node.parts.size(); ++i) {
      Value value = evaluate(*node.parts[i]);
      if (i < named) {
        out.values.push_back(std::move(value));
      } else {
        out.named.emplace_back(node.words[i - named], std::move(value));
      }
    }
    return out;
  }

  Value call(const Node& node) {
    const Node& callee = *node.parts[0];
    Value function;
    if (callee.kind == Kind::Attribute) {
      const Value object = evaluate(*callee.parts[0]);
      if (has_method(object, callee.text)) {
        return call_method(object, callee.text, arguments(node), meter_);
      }
      function = item_of(object, callee.text);
    } else {
      function = evaluate(callee);
    }
    const Function* known = function.as<Function>();
    if (known == nullptr) {
      const std::string name = callee.text.empty() ? "" : callee.text + ": ";
      throw Error(name + function.kind() + " cannot be called");
    }
    const Arguments given = arguments(node);
    return known->macro ? call_macro(*known->macro, given)
                        : call_function(known->name, given, now_, meter_);
  }

  Value call_macro(const Node& macro, const Arguments& given) {
    if (given.values.size() > macro.words.size()) {
      throw Error("macro " + macro.text + " takes " + std::to_string(macro.words.size()) +
                  " arguments");
    }
    for (const auto& [name, value] : given.named) {
      if (std::find(macro.words.begin(), macro.words.end(), name) == macro.words.end()) {
        throw Error("macro " + macro.text + " does not take " + name);
      }
    }
    Scope scope;
    for (size_t i = 0; i < macro.words.size(); ++i) {
      const Value* value = given.get(i, macro.words[i]);
      const NodePtr& fallback = macro.parts[i + 1];
      scope.emplace_back(macro.words[i], value      ? *value
                                         : fallback ? evaluate(*fallback)
                                                    : Value(Undefined{macro.words[i]}));
    }
    const size_t base = std::exchange(base_, scopes_.size());
    scopes_.push_back(std::move(scope));
    std::string text = captured([&] { execute(*macro.parts[0]); });
    scopes_.pop_back();
    base_ = base;
    return text;
  }

  Value compared(const Node& node) {
    Value left = evaluate(*node.parts[0]);
    for (size_t i = 0; i < node.words.size(); ++i) {
      Value right = evaluate(*node.parts[i + 1]);
      meter_.charge(left.weight() + right.weight());
      const std::string& op = node.words[i];
      const bool holds = op == "=="       ? left == right
                         : op == "!="     ? !(left == right)
                         : op == "in"     ? contains(right, left)
                         : op == "not in" ? !contains(right, left)
                         : op == "<"      ? compare(left, right) < 0
                         : op == ">"      ? compare(left, right) > 0
                         : op == "<="     ? compare(left, right) <= 0
                                          : compare(left, right) >= 0;
      if (!holds) return false;
      left = std::move(right);
    }
    return true;
  }

  static Value signed_number(const Value& value, bool negate) {
    if (!value.is_number()) throw Error("a sign before " + value.kind());
    if (value.as<double>()) return negate ? -value.number() : value.number();
    const auto number = static_cast<int64_t>(value.number());
    if (const int64_t* exact = value.as<int64_t>()) {
      if (negate && *exact == std::numeric_limits<int64_t>::min())
        throw Error("a number too large");
      return negate ? -*exact : *exact;
    }
    return negate ? -number : number;
  }

  Value binary(const std::string& op, const Value& left, const Value& right) {
    if (op == "~") {
      std::string text = text_of(left);
      return text += text_of(right);
    }
    if (op == "+" && left.string() && right.string()) {
      meter_.charge(left.string()->size() + right.string()->size());
      return *left.string() + *right.string();
    }
    if (op == "+" && left.list() && right.list() &&
        left.list()->is_tuple == right.list()->is_tuple) {
      meter_.charge(left.list()->items.size() + right.list()->items.size());
      std::vector<Value> items = left.list()->items;
      items.insert(items.end(), right.list()->items.begin(), right.list()->items.end());
      return left.list()->is_tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
    }
    if (op == "*" && left.string() && right.as<int64_t>()) {
      const int64_t times = std::clamp<int64_t>(*right.as<int64_t>(), 0, kBudget);
      meter_.charge(left.string()->size() * static_cast<size_t>(times));
      std::string text;
      for (int64_t i = 0; i < times; ++i) text += *left.string();
      return text;
    }
    if (!left.is_number() || !right.is_number()) {
      throw Error(left.kind() + " " + op + " " + right.kind() + " has no meaning");
    }
    const bool whole = !left.as<double>() && !right.as<double>();
    return whole && op != "/" ? whole_number(op, left, right) : real_number(op, left, right);
  }

  static int64_t integer(const Value& value) {
    const int64_t* number = value.as<int64_t>();
    return number ? *number : static_cast<int64_t>(value.number());
  }

  // Python's: divisions round down.
  static Value whole_number(const std::string& op, const Value& left, const Value& right) {
    const int64_t a = integer(left), b = integer(right);
    int64_t result = 0;
    bool overflow = false;
    if (op == "+") {
      overflow = __builtin_add_overflow(a, b, &result);
    } else if (op == "-") {
      overflow = __builtin_sub_overflow(a, b, &result);
    } else if (op == "*") {
      overflow = __builtin_mul_overflow(a, b, &result);
    } else {
      if (b == 0) throw Error("a division by zero");
      if (b == -1) return op == "//" ? signed_number(a, true) : Value(0);
      const int64_t quotient = a / b - (a % b != 0 && (a < 0) != (b < 0));
      return op == "//" ? quotient : a - quotient * b;
    }
    if (overflow) throw Error("a number too large");
    return result;
  }

  static Value real_number(const std::string& op, const Value& left, const Value& right) {
    const double a = left.number(), b = right.number();
    if (b == 0 && (op == "/" || op == "//" || op == "%")) throw Error("a division by zero");
    const double result = op == "+"    ? a + b
                          : op == "-"  ? a - b
                          : op == "*"  ? a * b
                          : op == "/"  ? a / b
                          : op == "//" ? std::floor(a / b)
                                       : a - std::floor(a / b) * b;
    if (!std::isfinite(result)) throw Error("a number too large");
    return result;
  }

  std::vector<Scope> scopes_;  // the innermost last
  size_t base_ = 0;            // where the scopes of the macro that runs begin
  int depth_ = 0;
  int line_ = 0;
  std::string out_;
  Meter meter_{kBudget};
  const std::time_t now_;
};

}  // namespace

std::string Template::render(std::vector<std::pair<std::string, Value>> variables,
                             std::time_t now) const {
  return Interpreter(std::move(variables), now).run(*root_);
}

}  // namespace ringtide::model::jinja

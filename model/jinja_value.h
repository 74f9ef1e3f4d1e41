// Values of chat templates: what Python's are to Jinja, as far as templates of chats need them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "model/types.h"

namespace ringtide::model::jinja {

// What is wrong with a template, or with what it is given.
class Error : public ModelError {
 public:
  using ModelError::ModelError;
};

// raise_exception() was called: the template refuses the conversation.
class Refusal : public Error {
 public:
  using Error::Error;
};

class Value;
struct Node;

struct Undefined {
  std::string name;  // of what was not there
};
struct None {};
struct List {
  std::vector<Value> items;
  bool is_tuple = false;
  int depth = 1;
  size_t weight = 0;
};
struct Dict {
  std::vector<std::pair<std::string, Value>> items;  // in the order of insertion
  int depth = 1;
  size_t weight = 0;
  bool is_namespace = false;  // the one kind of value that can be changed
};
struct Function {
  std::string name;
  const Node* macro = nullptr;  // null: a built-in one
};

// Lists and dicts are shared by copies and never change, but for namespaces. They nest at most
// kMaxDepth deep, weigh at most kMaxWeight and hold no namespace, so that there are no cycles.
class Value {
 public:
  static constexpr int kMaxDepth = 64;
  static constexpr size_t kMaxWeight = size_t{1} << 22;

  Value() : data_(Undefined{}) {}
  Value(Undefined u) : data_(std::move(u)) {}
  Value(None n) : data_(n) {}
  Value(bool b) : data_(b) {}
  Value(int i) : data_(static_cast<int64_t>(i)) {}
  Value(int64_t i) : data_(i) {}
  Value(double d) : data_(d) {}  // REQUIRES: finite
  Value(std::string s) : data_(std::move(s)) {}
  Value(const char* s) : data_(std::string(s)) {}
  Value(std::string_view s) : data_(std::string(s)) {}
  Value(Function f) : data_(std::move(f)) {}
  // Throw Error: too deep, too large, or a namespace within.
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value dict(std::vector<std::pair<std::string, Value>> items);
  static Value make_namespace(std::vector<std::pair<std::string, Value>> items);

  template <class T>
  const T* as() const {
    return std::get_if<T>(&data_);
  }
  bool is_undefined() const { return as<Undefined>() != nullptr; }
  bool is_none() const { return as<None>() != nullptr; }
  const std::string* string() const { return as<std::string>(); }
  const List* list() const;  // null: another kind
  const Dict* dict() const;
  bool is_number() const { return as<int64_t>() || as<double>() || as<bool>(); }
  double number() const;  // REQUIRES: is_number()

  // What looking at all of it costs: its items and bytes, those that are shared counted each time.
  size_t weight() const;
  // For a message: "a string", "undefined (x)".
  std::string kind() const;
  // Python's truth of it.
  bool truth() const;
  // Python's str() of it; nothing for what is undefined.
  std::string text() const;
  // Of a dict or namespace; null: not there.
  const Value* find(std::string_view key) const;
  // REQUIRES: a namespace.
  void set(std::string_view key, Value value) const;

  // Python's ==.
  friend bool operator==(const Value& a, const Value& b);

 private:
  std::variant<Undefined, None, bool, int64_t, double, std::string, std::shared_ptr<List>,
               std::shared_ptr<Dict>, Function>
      data_;
};

// Python's order of numbers and of strings: below, equal or above 0. Throws Error: no order.
int compare(const Value& a, const Value& b);

// As json.dumps(value, ensure_ascii=False); `indent` below 0: on one line.
std::string to_json(const Value& value, int indent);

}  // namespace ringtide::model::jinja

// A Jinja template as a tree.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/jinja_value.h"

namespace ringtide::model::jinja {

struct Node;
using NodePtr = std::unique_ptr<Node>;

// What a node means, and what its parts are. Null parts are allowed where it says "or null".
struct Node {
  enum class Kind {
    // Expressions.
    Literal,    // value
    Name,       // text
    List,       // items
    Tuple,      // items
    Dict,       // key, value, key, value, ...
    Attribute,  // of parts[0]: text
    Index,      // parts[0] [ parts[1] ]
    Slice,      // parts[0] [ parts[1] : parts[2] : parts[3] ], each or null
    Call,       // parts[0] ( arguments )
    Filter,     // parts[0] | text ( arguments )
    Test,       // parts[0] is text ( arguments )
    Not,
    Negate,
    Plus,
    And,
    Or,
    Binary,   // parts[0] text parts[1]
    Compare,  // parts[0] words[0] parts[1] words[1] parts[2] ...
    Choose,   // parts[1] if parts[0] else parts[2] or null
    // Statements.
    Text,      // text
    Output,    // parts[0]
    Body,      // statements
    If,        // condition, body, condition, body, ..., and the else's body where they are odd
    For,       // words: names; iterable, filter or null, body, else's body or null
    Set,       // words: names; value
    SetField,  // words[0] . words[1]; value
    SetBlock,  // words[0]; body
    Macro,     // text: its name; words: parameters; body, then defaults (or null) of each
    Break,
    Continue,
  };

  Kind kind;
  int line = 0;
  int depth = 0;  // of the tree below
  std::string text;
  std::vector<std::string> words;  // of calls, filters and tests: the names of the last arguments
  Value value;
  std::vector<NodePtr> parts;
};

// Throws Error that tells the line: not a template, or one that uses what is not supported.
NodePtr parse(std::string_view source);

}  // namespace ringtide::model::jinja

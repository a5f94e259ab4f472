// A parsed template: a tree of statements and expressions. The lexer and parser make it, the renderer walks
// it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace cga::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

struct Expression {
  enum class Kind {
    literal,      // value
    name,         // name
    list,         // operands
    dict,         // operands: key, value, key, value, …
    attribute,    // operands[0].name
    subscript,    // operands[0][operands[1]]
    slice,        // operands[0][operands[1]:operands[2]:operands[3]], of which null are left out
    unary,        // name: not - +
    binary,       // name: + - * / // % ~ and or
    comparison,   // names between operands: == != < <= > >= in "not in"
    conditional,  // operands[0] if operands[1] else operands[2], which may be null
    call,         // name(operands…) of a function
    method,       // operands[0].name(operands[1]…)
    filter,       // operands[0] | name(operands[1]…)
    test,         // operands[0] is name operands[1]…
  };
  Kind kind;
  int line = 0;
  int depth = 1;  // of the tree below and including this node
  std::string name;
  Value value;
  std::vector<ExpressionPtr> operands;
  std::vector<std::string> names;  // comparison: operators; calls: keywords of the last operands
};

struct Statement;
using Block = std::vector<Statement>;

struct Statement {
  enum class Kind {
    text,        // text
    output,      // {{ expression }}
    condition,   // if: branches in order, the last without expression is else
    loop,        // for targets in expression if filter: body, else: otherwise
    set,         // targets = expression; with a body, {% set target %}body{% endset %}
    set_member,  // targets[0].targets[1] = expression
    stop,        // break
    skip,        // continue
  };
  struct Branch {
    ExpressionPtr condition;
    Block body;
  };
  Statement(Kind statement_kind, int where) : kind(statement_kind), line(where) {}

  Kind kind;
  int line;
  std::string text;
  std::vector<std::string> targets;
  ExpressionPtr expression, filter;
  std::vector<Branch> branches;
  Block body, otherwise;
};

/// @throws Error (bad_file) naming `origin`, line and construct
Block parse_template(std::string_view source, std::string_view origin);

}  // namespace cga::jinja

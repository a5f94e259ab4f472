#include "tokenizer/jinja_expression_parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "cga/error.h"
#include "tokenizer/jinja_builtins.h"

namespace cga::jinja {

const Token& TokenStream::take() {
  const Token& token = tokens_[at_];
  if (token.kind != Token::Kind::end) ++at_;
  return token;
}

bool TokenStream::take_name(std::string_view name) {
  const bool found = sees(Token::Kind::name, name);
  if (found) take();
  return found;
}

bool TokenStream::take_sign(std::string_view sign) {
  const bool found = sees(Token::Kind::sign, sign);
  if (found) take();
  return found;
}

const Token& TokenStream::expect(Token::Kind kind, std::string_view what) {
  if (peek().kind != kind) {
    const std::string& found = peek().text;
    refuse("expected " + std::string(what) + (found.empty() ? "" : ", found '" + found + "'"));
  }
  return take();
}

void TokenStream::refuse(const std::string& problem) const {
  throw Error(ErrorKind::bad_file, origin_ + ":" + std::to_string(tokens_[at_ == 0 ? 0 : at_ - 1].line),
              problem, "the template is damaged, or beyond the supported subset of Jinja");
}

void TokenStream::go_deeper() {
  if (depth_ >= max_depth) refuse("the template is nested too deeply");
  ++depth_;
}

ExpressionParser::Node ExpressionParser::make(Expression::Kind kind, std::string name) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->name = std::move(name);
  node->line = tokens_.peek().line;
  return node;
}

/// Chains such as a + b + c make deep trees without nesting: the renderer's recursion is bounded here.
void ExpressionParser::adopt(Expression& parent, ExpressionPtr child) {
  if (child) parent.depth = std::max(parent.depth, child->depth + 1);
  if (parent.depth > max_depth) tokens_.refuse("an expression is nested too deeply");
  parent.operands.push_back(std::move(child));
}

ExpressionPtr ExpressionParser::parse() {
  const TokenStream::Level level(tokens_);
  ExpressionPtr value = parse_without_condition();
  if (!tokens_.take_name("if")) return value;
  Node node = make(Expression::Kind::conditional);
  adopt(*node, std::move(value));
  adopt(*node, parse_without_condition());
  adopt(*node, tokens_.take_name("else") ? parse() : nullptr);
  return node;
}

ExpressionPtr ExpressionParser::parse_tuple() {
  ExpressionPtr first = parse();
  if (!tokens_.sees(Token::Kind::sign, ",")) return first;
  Node node = make(Expression::Kind::list);
  adopt(*node, std::move(first));
  while (tokens_.take_sign(",")) adopt(*node, parse());
  return node;
}

/// The levels of left-associative operators, the loosest first; `not` and comparisons lie between.
ExpressionPtr ExpressionParser::parse_binary(std::size_t level) {
  struct Operators {
    Token::Kind kind;
    std::array<std::string_view, 4> names;
  };
  using Kind = Token::Kind;
  static constexpr std::array<Operators, 5> levels{{{Kind::name, {"or"}},
                                                    {Kind::name, {"and"}},
                                                    {Kind::sign, {"+", "-"}},
                                                    {Kind::sign, {"~"}},
                                                    {Kind::sign, {"*", "/", "//", "%"}}}};
  constexpr std::size_t and_level = 1;
  const auto operand = [&] {
    if (level == and_level) return parse_not();
    return level + 1 < levels.size() ? parse_binary(level + 1) : parse_unary(true);
  };
  const TokenStream::Level depth(tokens_);
  ExpressionPtr left = operand();
  while (true) {
    const Token& token = tokens_.peek();
    const auto& names = levels[level].names;
    const bool continues = token.kind == levels[level].kind && !token.text.empty() &&
                           std::find(names.begin(), names.end(), token.text) != names.end();
    if (!continues) return left;
    Node node = make(Expression::Kind::binary, tokens_.take().text);
    adopt(*node, std::move(left));
    adopt(*node, operand());
    left = std::move(node);
  }
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!tokens_.sees(Token::Kind::name, "not")) return parse_comparison();
  const TokenStream::Level level(tokens_);
  Node node = make(Expression::Kind::unary, tokens_.take().text);
  adopt(*node, parse_not());
  return node;
}

ExpressionPtr ExpressionParser::parse_comparison() {
  constexpr std::size_t additive_level = 2;
  constexpr std::array<std::string_view, 6> signs{"==", "!=", "<", "<=", ">", ">="};
  ExpressionPtr first = parse_binary(additive_level);
  Node node;
  while (true) {
    const Token token = tokens_.peek();
    std::string name;
    if (token.kind == Token::Kind::sign && std::find(signs.begin(), signs.end(), token.text) != signs.end()) {
      name = tokens_.take().text;
    } else if (tokens_.take_name("in")) {
      name = "in";
    } else if (tokens_.take_name("not")) {
      if (!tokens_.take_name("in")) tokens_.refuse("expected 'in' after 'not'");
      name = "not in";
    } else {
      break;
    }
    if (!node) {
      node = make(Expression::Kind::comparison);
      adopt(*node, std::move(first));
    }
    node->names.push_back(name);
    adopt(*node, parse_binary(additive_level));
  }
  if (node) return node;
  return first;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filters) {
  if (!tokens_.sees(Token::Kind::sign, "-") && !tokens_.sees(Token::Kind::sign, "+")) {
    return parse_postfix(parse_primary(), with_filters);
  }
  const TokenStream::Level level(tokens_);
  Node node = make(Expression::Kind::unary, tokens_.take().text);
  adopt(*node, parse_unary(false));
  return parse_postfix(std::move(node), with_filters);
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token token = tokens_.peek();
  if (token.kind == Token::Kind::name) return parse_name();
  if (tokens_.take_sign("(")) return parse_brackets(")");
  if (tokens_.take_sign("[")) return parse_brackets("]");
  if (tokens_.take_sign("{")) return parse_dict();
  Node node = make(Expression::Kind::literal);
  const char *begin = token.text.data(), *end = begin + token.text.size();
  if (token.kind == Token::Kind::string) {
    std::string text;
    while (tokens_.peek().kind == Token::Kind::string) text += tokens_.take().text;
    node->value = Value::text(std::move(text));
  } else if (token.kind == Token::Kind::integer) {
    std::int64_t value = 0;
    if (std::from_chars(begin, end, value).ec != std::errc()) tokens_.refuse(token.text + " is too large");
    node->value = Value::integer(value);
    tokens_.take();
  } else if (token.kind == Token::Kind::real) {
    double value = 0;
    if (std::from_chars(begin, end, value).ec != std::errc()) tokens_.refuse(token.text + " is too large");
    node->value = Value::real(value);
    tokens_.take();
  } else {
    tokens_.refuse("expected an expression" + (token.text.empty() ? "" : ", found '" + token.text + "'"));
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_name() {
  Node node = make(Expression::Kind::literal);
  const std::string name = tokens_.take().text;
  if (name == "true" || name == "True") {
    node->value = Value::boolean(true);
  } else if (name == "false" || name == "False") {
    node->value = Value::boolean(false);
  } else if (name == "none" || name == "None") {
    node->value = Value::none();
  } else {
    node->kind = Expression::Kind::name;
    node->name = name;
    if (tokens_.take_sign("(")) {
      node->kind = Expression::Kind::call;
      parse_arguments(*node);
    }
  }
  return node;
}

/// A list, or in round brackets a tuple (which is a list here) or a single expression.
ExpressionPtr ExpressionParser::parse_brackets(std::string_view close) {
  const TokenStream::Level level(tokens_);
  Node node = make(Expression::Kind::list);
  bool comma = false;
  while (!tokens_.take_sign(close)) {
    if (!node->operands.empty() && !comma) tokens_.refuse("expected ',' or '" + std::string(close) + "'");
    adopt(*node, parse());
    comma = tokens_.take_sign(",");
  }
  if (close == ")" && node->operands.size() == 1 && !comma) return std::move(node->operands.front());
  return node;
}

ExpressionPtr ExpressionParser::parse_dict() {
  const TokenStream::Level level(tokens_);
  Node node = make(Expression::Kind::dict);
  while (!tokens_.take_sign("}")) {
    if (!node->operands.empty() && !tokens_.take_sign(",")) tokens_.refuse("expected ',' or '}'");
    if (tokens_.take_sign("}")) break;
    adopt(*node, parse());
    if (!tokens_.take_sign(":")) tokens_.refuse("expected ':'");
    adopt(*node, parse());
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr operand, bool with_filters) {
  bool filtered = false;
  while (true) {
    if (!filtered && tokens_.take_sign(".")) {
      operand = parse_member(std::move(operand));
    } else if (!filtered && tokens_.take_sign("[")) {
      operand = parse_subscript(std::move(operand));
    } else if (with_filters && tokens_.take_sign("|")) {
      operand = parse_filter(std::move(operand));
      filtered = true;
    } else if (with_filters && tokens_.take_name("is")) {
      operand = parse_test(std::move(operand));
      filtered = true;
    } else {
      return operand;
    }
  }
}

ExpressionPtr ExpressionParser::parse_member(ExpressionPtr object) {
  Node node = make(Expression::Kind::attribute, tokens_.expect(Token::Kind::name, "a name").text);
  adopt(*node, std::move(object));
  if (tokens_.take_sign("(")) {
    node->kind = Expression::Kind::method;
    if (!is_method(node->name)) tokens_.refuse("unsupported method '" + node->name + "'");
    parse_arguments(*node);
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr object) {
  const TokenStream::Level level(tokens_);
  Node node = make(Expression::Kind::subscript);
  adopt(*node, std::move(object));
  const auto part = [&] {
    const bool left_out = tokens_.sees(Token::Kind::sign, ":") || tokens_.sees(Token::Kind::sign, "]");
    adopt(*node, left_out ? nullptr : parse());
  };
  part();
  while (node->operands.size() < 4 && tokens_.take_sign(":")) {
    node->kind = Expression::Kind::slice;
    part();
  }
  if (!tokens_.take_sign("]")) tokens_.refuse("expected ']'");
  if (node->kind == Expression::Kind::subscript && !node->operands[1]) tokens_.refuse("expected a subscript");
  if (node->kind == Expression::Kind::slice) node->operands.resize(4);
  return node;
}

ExpressionPtr ExpressionParser::parse_filter(ExpressionPtr operand) {
  Node node = make(Expression::Kind::filter, tokens_.expect(Token::Kind::name, "a filter").text);
  if (!is_filter(node->name)) tokens_.refuse("unsupported filter '" + node->name + "'");
  adopt(*node, std::move(operand));
  if (tokens_.take_sign("(")) parse_arguments(*node);
  return node;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr operand) {
  Node negation = tokens_.take_name("not") ? make(Expression::Kind::unary, "not") : nullptr;
  Node node = make(Expression::Kind::test, tokens_.expect(Token::Kind::name, "a test").text);
  if (!is_test(node->name)) tokens_.refuse("unsupported test '" + node->name + "'");
  adopt(*node, std::move(operand));
  if (tokens_.take_sign("(")) {
    parse_arguments(*node);
  } else if (test_takes_argument(node->name)) {
    adopt(*node, parse_unary(false));
  }
  if (!negation) return node;
  adopt(*negation, std::move(node));
  return negation;
}

/// Positional arguments, then those with keywords, whose names go to `call.names`.
void ExpressionParser::parse_arguments(Expression& call) {
  const TokenStream::Level level(tokens_);
  for (bool first = true; !tokens_.take_sign(")"); first = false) {
    if (!first && !tokens_.take_sign(",")) tokens_.refuse("expected ',' or ')'");
    if (tokens_.take_sign(")")) return;
    ExpressionPtr argument = parse();
    if (argument->kind == Expression::Kind::name && tokens_.take_sign("=")) {
      call.names.push_back(argument->name);
      argument = parse();
    } else if (!call.names.empty()) {
      tokens_.refuse("a positional argument follows one with a keyword");
    }
    adopt(call, std::move(argument));
  }
}

}  // namespace cga::jinja

// Expressions of the template language, by Jinja's precedence: `if else`, or, and, not, comparisons, + -, ~,
// * / // %, signs, then filters and tests, which bind tightest.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja_lexer.h"
#include "tokenizer/jinja_syntax.h"

namespace cga::jinja {

/// The tokens of a template, one ahead.
class TokenStream {
 public:
  TokenStream(std::vector<Token> tokens, std::string_view origin)
      : tokens_(std::move(tokens)), origin_(origin) {}

  const Token& peek() const { return tokens_[at_]; }
  const Token& previous() const { return tokens_[at_ - 1]; }
  const Token& take();
  bool sees(Token::Kind kind, std::string_view text) const {
    return peek().kind == kind && peek().text == text;
  }
  bool take_name(std::string_view name);
  bool take_sign(std::string_view sign);
  const Token& expect(Token::Kind kind, std::string_view what);
  /// @throws Error (bad_file) naming origin and the line of the token that was taken last
  [[noreturn]] void refuse(const std::string& problem) const;

  /// Held while something nested is read: nesting is bounded, and with it the parser's recursion.
  class Level {
   public:
    explicit Level(TokenStream& tokens) : tokens_(tokens) { tokens_.go_deeper(); }
    ~Level() { --tokens_.depth_; }
    Level(const Level&) = delete;

   private:
    TokenStream& tokens_;
  };

 private:
  static constexpr int max_depth = 1000;
  void go_deeper();

  std::vector<Token> tokens_;
  std::string origin_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  ExpressionPtr parse();
  ExpressionPtr parse_without_condition() { return parse_binary(0); }
  /// One expression, or several with commas between, which make a list.
  ExpressionPtr parse_tuple();

 private:
  using Node = std::unique_ptr<Expression>;

  static constexpr int max_depth = 500;  // of a tree

  Node make(Expression::Kind kind, std::string name = "") const;
  void adopt(Expression& parent, ExpressionPtr child);
  ExpressionPtr parse_binary(std::size_t level);
  ExpressionPtr parse_not();
  ExpressionPtr parse_comparison();
  ExpressionPtr parse_unary(bool with_filters);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_name();
  ExpressionPtr parse_brackets(std::string_view close);
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr operand, bool with_filters);
  ExpressionPtr parse_member(ExpressionPtr object);
  ExpressionPtr parse_subscript(ExpressionPtr object);
  ExpressionPtr parse_filter(ExpressionPtr operand);
  ExpressionPtr parse_test(ExpressionPtr operand);
  void parse_arguments(Expression& call);

  TokenStream& tokens_;
};

}  // namespace cga::jinja

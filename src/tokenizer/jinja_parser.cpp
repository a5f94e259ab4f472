// Statements of a template; expressions are read by ExpressionParser.
#include <algorithm>
#include <utility>

#include "tokenizer/jinja_expression_parser.h"
#include "tokenizer/jinja_syntax.h"

namespace cga::jinja {
namespace {

class TemplateParser {
 public:
  TemplateParser(std::string_view source, std::string_view origin)
      : tokens_(tokenize(source, origin), origin), expressions_(tokens_) {}

  Block parse() { return parse_block({}); }

 private:
  using Kind = Token::Kind;

  Block parse_block(std::initializer_list<std::string_view> ends);
  Statement parse_statement();
  Statement parse_condition(int line);
  Statement parse_loop(int line);
  Statement parse_set(int line);
  std::vector<std::string> parse_targets();
  void end_block() { tokens_.expect(Kind::block_end, "%}"); }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int n_loops_ = 0;  // that the current statement is in
};

/// Reads statements up to a block tag that starts with one of `ends`, of which it takes the name.
Block TemplateParser::parse_block(std::initializer_list<std::string_view> ends) {
  const TokenStream::Level level(tokens_);
  Block block;
  while (true) {
    const Token token = tokens_.peek();
    if (token.kind == Kind::end) {
      if (ends.size() == 0) return block;
      tokens_.refuse("expected " + std::string(*(ends.end() - 1)) + " before the end of the template");
    }
    tokens_.take();
    if (token.kind == Kind::text) {
      block.emplace_back(Statement::Kind::text, token.line);
      block.back().text = token.text;
    } else if (token.kind == Kind::output_begin) {
      block.emplace_back(Statement::Kind::output, token.line);
      block.back().expression = expressions_.parse();
      tokens_.expect(Kind::output_end, "}}");
    } else {
      const Token name = tokens_.peek();
      if (std::find(ends.begin(), ends.end(), name.text) != ends.end() && name.kind == Kind::name) {
        tokens_.take();
        return block;
      }
      // Hugging Face marks what the assistant wrote, for training; it prints what is inside.
      if (tokens_.take_name("generation") || tokens_.take_name("endgeneration")) {
        end_block();
        continue;
      }
      block.push_back(parse_statement());
    }
  }
}

Statement TemplateParser::parse_statement() {
  const Token name = tokens_.take();
  if (name.kind == Kind::name) {
    if (name.text == "if") return parse_condition(name.line);
    if (name.text == "for") return parse_loop(name.line);
    if (name.text == "set") return parse_set(name.line);
    if ((name.text == "break" || name.text == "continue") && n_loops_ > 0) {
      end_block();
      return Statement(name.text == "break" ? Statement::Kind::stop : Statement::Kind::skip, name.line);
    }
  }
  tokens_.refuse("unsupported statement '" + name.text + "'");
}

Statement TemplateParser::parse_condition(int line) {
  Statement statement(Statement::Kind::condition, line);
  while (true) {
    statement.branches.emplace_back();
    statement.branches.back().condition = expressions_.parse();
    end_block();
    statement.branches.back().body = parse_block({"elif", "else", "endif"});
    const std::string end = tokens_.previous().text;
    if (end == "elif") continue;
    if (end == "else") {
      end_block();
      statement.branches.emplace_back();
      statement.branches.back().body = parse_block({"endif"});
    }
    end_block();
    return statement;
  }
}

Statement TemplateParser::parse_loop(int line) {
  Statement statement(Statement::Kind::loop, line);
  statement.targets = parse_targets();
  if (!tokens_.take_name("in")) tokens_.refuse("expected 'in'");
  statement.expression = expressions_.parse_without_condition();
  if (tokens_.take_name("if")) statement.filter = expressions_.parse();
  end_block();
  ++n_loops_;
  statement.body = parse_block({"else", "endfor"});
  --n_loops_;
  if (tokens_.previous().text == "else") {
    end_block();
    statement.otherwise = parse_block({"endfor"});
  }
  end_block();
  return statement;
}

Statement TemplateParser::parse_set(int line) {
  Statement statement(Statement::Kind::set, line);
  statement.targets = parse_targets();
  if (tokens_.take_sign(".")) {
    statement.kind = Statement::Kind::set_member;
    statement.targets.push_back(tokens_.expect(Kind::name, "a name").text);
  }
  if (tokens_.take_sign("=")) {
    statement.expression = expressions_.parse_tuple();
    end_block();
    return statement;
  }
  if (statement.kind != Statement::Kind::set || statement.targets.size() != 1) tokens_.refuse("expected '='");
  end_block();
  statement.body = parse_block({"endset"});
  end_block();
  return statement;
}

std::vector<std::string> TemplateParser::parse_targets() {
  std::vector<std::string> targets;
  const bool in_brackets = tokens_.take_sign("(");
  do {
    targets.push_back(tokens_.expect(Kind::name, "a name").text);
  } while (tokens_.take_sign(","));
  if (in_brackets && !tokens_.take_sign(")")) tokens_.refuse("expected ')'");
  return targets;
}

}  // namespace

Block parse_template(std::string_view source, std::string_view origin) {
  return TemplateParser(source, origin).parse();
}

}  // namespace cga::jinja

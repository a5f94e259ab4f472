// Computes expressions. Variables live in scopes: a loop's body has its own, in which `set` writes.
#pragma once

#include <string>
#include <string_view>

#include "tokenizer/jinja_builtins.h"
#include "tokenizer/jinja_syntax.h"

namespace cga::jinja {

class Scopes {
 public:
  explicit Scopes(Dict globals) : variables_(std::move(globals)) {}

  Value find(std::string_view name) const;
  void set(const std::string& name, Value value);

  /// A scope that ends with this object.
  class Inner {
   public:
    explicit Inner(Scopes& scopes) : scopes_(scopes), outer_begin_(scopes.begin_) {
      scopes.begin_ = scopes.variables_.size();
    }
    ~Inner() {
      scopes_.variables_.resize(scopes_.begin_);
      scopes_.begin_ = outer_begin_;
    }
    Inner(const Inner&) = delete;

   private:
    Scopes& scopes_;
    std::size_t outer_begin_;
  };

 private:
  Dict variables_;         // the innermost last
  std::size_t begin_ = 0;  // of the innermost scope
};

class Evaluator {
 public:
  Evaluator(Dict globals, std::int64_t budget) : scopes_(std::move(globals)), budget_(budget) {}

  /// @throws Problem; line() is then where
  Value evaluate(const Expression& e);

  Scopes& scopes() { return scopes_; }
  Budget& budget() { return budget_; }
  int line() const { return line_; }
  void at_line(int line) { line_ = line; }

 private:
  Value make_dict(const Expression& e);
  Value subscript(const Value& object, const Value& key);
  Value slice(const Expression& e);
  Value binary(const Expression& e);
  Value arithmetic(std::string_view sign, const Value& a, const Value& b);
  Value comparison(const Expression& e);
  Arguments arguments(const Expression& e);

  Scopes scopes_;
  Budget budget_;
  int line_ = 0;
};

}  // namespace cga::jinja

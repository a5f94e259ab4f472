#include "tokenizer/jinja_evaluator.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tokenizer/jinja_text.h"

namespace cga::jinja {
namespace {

using Kind = Value::Kind;

constexpr std::int64_t step_cost = Value::base_weight;  // of one expression

[[noreturn]] void too_large() {
  throw Problem("a number is too large");
}

/// Python's // and %: the quotient is rounded down.
Value divide_integers(std::string_view sign, std::int64_t a, std::int64_t b) {
  if (b == 0) throw Problem("division by zero");
  if (b == -1) {
    if (a == std::numeric_limits<std::int64_t>::min()) too_large();
    return Value::integer(sign == "%" ? 0 : -a);
  }
  const bool inexact = a % b != 0 && (a < 0) != (b < 0);
  return Value::integer(sign == "%" ? a % b + (inexact ? b : 0) : a / b - (inexact ? 1 : 0));
}

Value integer_arithmetic(std::string_view sign, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflow = false;
  if (sign == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (sign == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (sign == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else {
    return divide_integers(sign, a, b);
  }
  if (overflow) too_large();
  return Value::integer(result);
}

Value real_arithmetic(std::string_view sign, double a, double b) {
  if (sign == "+") return Value::real(a + b);
  if (sign == "-") return Value::real(a - b);
  if (sign == "*") return Value::real(a * b);
  if (b == 0) throw Problem("division by zero");
  if (sign == "/") return Value::real(a / b);
  if (sign == "//") return Value::real(std::floor(a / b));
  return Value::real(a - std::floor(a / b) * b);
}

bool holds(std::string_view sign, const Value& a, const Value& b) {
  if (sign == "==") return equal(a, b);
  if (sign == "!=") return !equal(a, b);
  if (sign == "in") return contains(b, a);
  if (sign == "not in") return !contains(b, a);
  const int order = compare(a, b);
  if (sign == "<") return order < 0;
  if (sign == "<=") return order <= 0;
  return sign == ">" ? order > 0 : order >= 0;
}

}  // namespace

Value Scopes::find(std::string_view name) const {
  const auto found =
      std::find_if(variables_.rbegin(), variables_.rend(), [&](const auto& v) { return v.first == name; });
  return found == variables_.rend() ? Value() : found->second;
}

void Scopes::set(const std::string& name, Value value) {
  const auto first = variables_.begin() + static_cast<std::ptrdiff_t>(begin_);
  const auto found = std::find_if(first, variables_.end(), [&](const auto& v) { return v.first == name; });
  if (found == variables_.end()) {
    variables_.emplace_back(name, std::move(value));
  } else {
    found->second = std::move(value);
  }
}

Value Evaluator::evaluate(const Expression& e) {
  using E = Expression::Kind;
  line_ = e.line;
  budget_.pay(step_cost);
  const auto operand = [&](std::size_t i) { return evaluate(*e.operands[i]); };
  switch (e.kind) {
    case E::literal:
      return e.value;
    case E::name:
      return scopes_.find(e.name);
    case E::list: {
      List items;
      for (const ExpressionPtr& item : e.operands) items.push_back(evaluate(*item));
      return Value::list(std::move(items));
    }
    case E::dict:
      return make_dict(e);
    case E::attribute:
      return subscript(operand(0), Value::text(e.name));
    case E::subscript: {
      const Value object = operand(0);
      return subscript(object, operand(1));
    }
    case E::slice:
      return slice(e);
    case E::unary:
      if (e.name == "not") return Value::boolean(!operand(0).truthy());
      return arithmetic(e.name, Value::integer(0), operand(0));
    case E::binary:
      return binary(e);
    case E::comparison:
      return comparison(e);
    case E::conditional:
      if (operand(1).truthy()) return operand(0);
      return e.operands[2] ? operand(2) : Value();
    case E::call:
      return call_function(e.name, arguments(e), budget_);
    case E::method:
      return call_method(e.name, arguments(e), budget_);
    case E::filter:
      return apply_filter(e.name, arguments(e), budget_);
    case E::test:
      return Value::boolean(apply_test(e.name, arguments(e)));
  }
  return {};
}

Value Evaluator::make_dict(const Expression& e) {
  Dict entries;
  for (std::size_t i = 0; i < e.operands.size(); i += 2) {
    const std::string key = evaluate(*e.operands[i]).as_text();
    Value value = evaluate(*e.operands[i + 1]);
    const auto old =
        std::find_if(entries.begin(), entries.end(), [&](const auto& x) { return x.first == key; });
    if (old == entries.end()) {
      entries.emplace_back(key, std::move(value));
    } else {
      old->second = std::move(value);
    }
  }
  return Value::dict(std::move(entries));
}

/// An entry of a mapping, or an item of a list or a character by number; undefined if there is none.
Value Evaluator::subscript(const Value& object, const Value& key) {
  if (object.is(Kind::undefined)) throw Problem("looks for " + to_text(key) + " in an undefined value");
  if (key.is(Kind::text)) return object.find(key.as_text());
  if (!key.is(Kind::integer) || !(object.is(Kind::list) || object.is(Kind::text))) return {};
  if (object.is(Kind::text)) budget_.pay(object.weight());
  const std::int64_t n = object.length();
  const std::int64_t i = key.as_integer() < 0 ? key.as_integer() + n : key.as_integer();
  if (i < 0 || i >= n) return {};
  if (object.is(Kind::list)) return object.as_list()[static_cast<std::size_t>(i)];
  return Value::text(std::string(characters(object.as_text())[static_cast<std::size_t>(i)]));
}

Value Evaluator::slice(const Expression& e) {
  const Value object = evaluate(*e.operands[0]);
  const List items = budget_.items_of(object);
  const auto n = static_cast<std::int64_t>(items.size());
  const auto bound = [&](std::size_t i, std::int64_t fallback) {
    const Value value = e.operands[i] ? evaluate(*e.operands[i]) : Value::none();
    return value.is(Kind::none) ? fallback : value.as_integer();
  };
  const std::int64_t step = bound(3, 1);
  if (step == 0) throw Problem("a slice's step is zero");
  const std::int64_t lowest = step > 0 ? 0 : -1, highest = step > 0 ? n : n - 1;
  const auto position = [&](std::size_t i, std::int64_t fallback) {
    if (!e.operands[i]) return fallback;
    const std::int64_t at = bound(i, fallback);
    return at == fallback ? at : std::clamp(at < 0 ? at + n : at, lowest, highest);
  };
  const std::int64_t first = position(1, step > 0 ? lowest : highest);
  const std::int64_t last = position(2, step > 0 ? highest : lowest);
  List kept;
  for (std::int64_t i = first; step > 0 ? i < last : i > last;) {
    kept.push_back(items[static_cast<std::size_t>(i)]);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  if (!object.is(Kind::text)) return Value::list(std::move(kept));
  std::string text;
  for (const Value& c : kept) text += c.as_text();
  return Value::text(std::move(text));
}

Value Evaluator::binary(const Expression& e) {
  Value left = evaluate(*e.operands[0]);
  if (e.name == "and") return left.truthy() ? evaluate(*e.operands[1]) : left;
  if (e.name == "or") return left.truthy() ? left : evaluate(*e.operands[1]);
  const Value right = evaluate(*e.operands[1]);
  line_ = e.line;
  if (e.name != "~") return arithmetic(e.name, left, right);
  budget_.pay(left.weight() + right.weight());
  return Value::text(to_text(left) + to_text(right));
}

Value Evaluator::arithmetic(std::string_view sign, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is(Kind::real) || b.is(Kind::real) || sign == "/")
      return real_arithmetic(sign, a.as_real(), b.as_real());
    return integer_arithmetic(sign, a.as_integer(), b.as_integer());
  }
  if (sign == "+" && a.is(Kind::text) && b.is(Kind::text)) {
    budget_.pay(a.weight() + b.weight());
    return Value::text(a.as_text() + b.as_text());
  }
  if (sign == "+" && a.is(Kind::list) && b.is(Kind::list)) {
    budget_.pay(a.weight() + b.weight());
    List items = a.as_list();
    items.insert(items.end(), b.as_list().begin(), b.as_list().end());
    return Value::list(std::move(items));
  }
  if (sign == "*" && a.is(Kind::text) && b.is(Kind::integer)) {
    std::int64_t cost = 0;
    if (__builtin_mul_overflow(a.weight(), std::max<std::int64_t>(b.as_integer(), 0), &cost)) too_large();
    budget_.pay(cost);
    std::string text;
    for (std::int64_t i = 0; i < b.as_integer(); ++i) text += a.as_text();
    return Value::text(std::move(text));
  }
  throw Problem("cannot compute " + std::string(a.kind_name()) + " " + std::string(sign) + " " +
                std::string(b.kind_name()));
}

Value Evaluator::comparison(const Expression& e) {
  Value left = evaluate(*e.operands[0]);
  for (std::size_t i = 0; i < e.names.size(); ++i) {
    Value right = evaluate(*e.operands[i + 1]);
    budget_.pay(left.weight() + right.weight());
    line_ = e.line;
    if (!holds(e.names[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

/// The arguments in order; they are paid for here, so that builtins may go through them once for free.
Arguments Evaluator::arguments(const Expression& e) {
  Arguments result;
  const std::size_t n_positional = e.operands.size() - e.names.size();
  for (std::size_t i = 0; i < e.operands.size(); ++i) {
    Value value = evaluate(*e.operands[i]);
    // Tests of a value's kind do not look inside.
    if (e.kind != Expression::Kind::test || test_takes_argument(e.name)) budget_.pay(value.weight());
    if (i < n_positional) {
      result.positional.push_back(std::move(value));
    } else {
      result.named.emplace_back(e.names[i - n_positional], std::move(value));
    }
  }
  line_ = e.line;
  return result;
}

}  // namespace cga::jinja

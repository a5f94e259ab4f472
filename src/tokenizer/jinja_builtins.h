// The functions, methods, filters and tests of the template language that chat templates use. Names are
// tables in jinja_builtins.cpp and jinja_filters.cpp: one entry each, one place to add another.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace cga::jinja {

/// What a render may still spend. Hostile templates must end: every step and every byte made is paid for.
class Budget {
 public:
  explicit Budget(std::int64_t limit) : left_(limit) {}
  /// @throws Problem when nothing is left
  void pay(std::int64_t amount) {
    left_ -= amount;
    if (left_ < 0) throw Problem("the template runs without end, or makes too much text");
  }
  /// A value's items, paid for: a text's become a value a character.
  List items_of(const Value& value) {
    pay(value.weight() * (value.is(Value::Kind::text) ? Value::base_weight : 1));
    return value.items();
  }

 private:
  std::int64_t left_;
};

/// What a call was given. The receiver of a method, filter or test is the first positional argument.
struct Arguments {
  List positional;
  Dict named;

  /// The i-th argument after the receiver, by position or name; undefined if it was not given.
  Value get(std::size_t i, std::string_view name) const;
  const Value& receiver() const { return positional.front(); }
};

bool is_method(std::string_view name);
bool is_filter(std::string_view name);
bool is_test(std::string_view name);
bool test_takes_argument(std::string_view name);

// Each throws Problem for arguments it cannot use.
Value call_function(std::string_view name, const Arguments& arguments, Budget& budget);
Value call_method(std::string_view name, const Arguments& arguments, Budget& budget);
Value apply_filter(std::string_view name, const Arguments& arguments, Budget& budget);
bool apply_test(std::string_view name, const Arguments& arguments);

/// A template's own refusal, by raise_exception: the conversation is at fault.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace cga::jinja

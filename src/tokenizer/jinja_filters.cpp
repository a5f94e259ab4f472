// Filters and tests.
#include <algorithm>
#include <array>

#include "tokenizer/jinja_builtins.h"
#include "tokenizer/jinja_text.h"

namespace cga::jinja {
namespace {

using Kind = Value::Kind;

Value join(const Arguments& arguments, Budget& budget) {
  const Value separator = arguments.get(0, "d"), attribute = arguments.get(1, "attribute");
  std::string result;
  bool first = true;
  for (const Value& item : budget.items_of(arguments.receiver())) {
    if (!first) result += to_text(separator);
    result += to_text(attribute.is(Kind::text) ? item.find(attribute.as_text()) : item);
    budget.pay(static_cast<std::int64_t>(separator.weight()));
    first = false;
  }
  return Value::text(std::move(result));
}

Value default_value(const Arguments& arguments, Budget&) {
  const Value& value = arguments.receiver();
  const bool keep = arguments.get(1, "boolean").truthy() ? value.truthy() : !value.is(Kind::undefined);
  if (keep) return value;
  const Value fallback = arguments.get(0, "default_value");
  return fallback.is(Kind::undefined) ? Value::text("") : fallback;
}

/// selectattr(attribute, test, argument…) and its opposite.
Value select_by_attribute(const Arguments& arguments, bool keep, Budget& budget) {
  const Value attribute = arguments.get(0, "attribute"), test = arguments.get(1, "test");
  if (test.is(Kind::text) && !is_test(test.as_text()))
    throw Problem("unsupported test '" + test.as_text() + "'");
  List result;
  for (const Value& item : budget.items_of(arguments.receiver())) {
    Arguments inner{{item.find(attribute.as_text()), arguments.get(2, "value")}, {}};
    const bool passes = test.is(Kind::text) ? apply_test(test.as_text(), inner) : inner.receiver().truthy();
    if (passes == keep) result.push_back(item);
  }
  return Value::list(std::move(result));
}

Value map_attribute(const Arguments& arguments, Budget& budget) {
  const std::string attribute = arguments.get(99, "attribute").as_text();
  List result;
  for (const Value& item : budget.items_of(arguments.receiver())) result.push_back(item.find(attribute));
  return Value::list(std::move(result));
}

Value reverse(const Value& value, Budget& budget) {
  const List forward = budget.items_of(value);
  List items(forward.rbegin(), forward.rend());
  if (!value.is(Kind::text)) return Value::list(std::move(items));
  std::string text;
  for (const Value& item : items) text += item.as_text();
  return Value::text(std::move(text));
}

Value edge(const Value& value, bool first, Budget& budget) {
  const List items = budget.items_of(value);
  if (items.empty()) return {};
  return first ? items.front() : items.back();
}

Value to_integer(const Value& value) {
  if (value.is(Kind::real)) return Value::integer(static_cast<std::int64_t>(value.as_real()));
  if (!value.is(Kind::text)) return Value::integer(value.is_number() ? value.as_integer() : 0);
  try {
    return Value::integer(std::stoll(value.as_text()));
  } catch (const std::logic_error&) {  // not a number, or too large
    return Value::integer(0);
  }
}

Value as_json(const Arguments& arguments, Budget& budget) {
  const Value given = arguments.get(0, "indent");
  if (!given.is(Kind::integer)) return Value::text(to_json(arguments.receiver()));
  const std::int64_t indent = std::clamp<std::int64_t>(given.as_integer(), 0, 8);
  budget.pay(arguments.receiver().weight() * indent);  // margins: up to max_depth * indent bytes an entry
  return Value::text(to_json(arguments.receiver(), static_cast<int>(indent)));
}

using Filter = Value (*)(const Arguments&, Budget&);

constexpr std::array<std::pair<std::string_view, Filter>, 22> filters{{
    {"trim", [](const Arguments& a, Budget& b) { return call_method("strip", a, b); }},
    {"upper", [](const Arguments& a, Budget&) { return Value::text(to_upper(to_text(a.receiver()))); }},
    {"lower", [](const Arguments& a, Budget&) { return Value::text(to_lower(to_text(a.receiver()))); }},
    {"capitalize", [](const Arguments& a, Budget& b) { return call_method("capitalize", a, b); }},
    {"replace", [](const Arguments& a, Budget& b) { return call_method("replace", a, b); }},
    {"items", [](const Arguments& a, Budget& b) { return call_method("items", a, b); }},
    {"length", [](const Arguments& a, Budget&) { return Value::integer(a.receiver().length()); }},
    {"count", [](const Arguments& a, Budget&) { return Value::integer(a.receiver().length()); }},
    {"tojson", as_json},
    {"string", [](const Arguments& a, Budget&) { return Value::text(to_text(a.receiver())); }},
    {"safe", [](const Arguments& a, Budget&) { return a.receiver(); }},  // nothing is escaped anyway
    {"int", [](const Arguments& a, Budget&) { return to_integer(a.receiver()); }},
    {"list", [](const Arguments& a, Budget& b) { return Value::list(b.items_of(a.receiver())); }},
    {"first", [](const Arguments& a, Budget& b) { return edge(a.receiver(), true, b); }},
    {"last", [](const Arguments& a, Budget& b) { return edge(a.receiver(), false, b); }},
    {"reverse", [](const Arguments& a, Budget& b) { return reverse(a.receiver(), b); }},
    {"join", join},
    {"default", default_value},
    {"d", default_value},
    {"selectattr", [](const Arguments& a, Budget& b) { return select_by_attribute(a, true, b); }},
    {"rejectattr", [](const Arguments& a, Budget& b) { return select_by_attribute(a, false, b); }},
    {"map", map_attribute},
}};

using Test = bool (*)(const Arguments&);

bool same_as_argument(const Arguments& a) {
  return equal(a.receiver(), a.get(0, "other"));
}

struct TestEntry {
  std::string_view name;
  Test test;
  bool takes_argument = false;
};

constexpr std::array<TestEntry, 18> tests{{
    {"defined", [](const Arguments& a) { return !a.receiver().is(Kind::undefined); }},
    {"undefined", [](const Arguments& a) { return a.receiver().is(Kind::undefined); }},
    {"none", [](const Arguments& a) { return a.receiver().is(Kind::none); }},
    {"boolean", [](const Arguments& a) { return a.receiver().is(Kind::boolean); }},
    {"integer", [](const Arguments& a) { return a.receiver().is(Kind::integer); }},
    {"float", [](const Arguments& a) { return a.receiver().is(Kind::real); }},
    {"number", [](const Arguments& a) { return a.receiver().is_number(); }},
    {"string", [](const Arguments& a) { return a.receiver().is(Kind::text); }},
    {"mapping", [](const Arguments& a) { return a.receiver().is(Kind::dict); }},
    {"sequence",
     [](const Arguments& a) {
       return a.receiver().is(Kind::text) || a.receiver().is(Kind::list) || a.receiver().is(Kind::dict);
     }},
    {"iterable",
     [](const Arguments& a) {
       return a.receiver().is(Kind::text) || a.receiver().is(Kind::list) || a.receiver().is(Kind::dict) ||
              a.receiver().is(Kind::undefined);
     }},
    {"true", [](const Arguments& a) { return a.receiver().is(Kind::boolean) && a.receiver().truthy(); }},
    {"false", [](const Arguments& a) { return a.receiver().is(Kind::boolean) && !a.receiver().truthy(); }},
    {"odd", [](const Arguments& a) { return a.receiver().as_integer() % 2 != 0; }},
    {"even", [](const Arguments& a) { return a.receiver().as_integer() % 2 == 0; }},
    {"equalto", same_as_argument, true},
    {"eq", same_as_argument, true},
    {"in", [](const Arguments& a) { return contains(a.get(0, "seq"), a.receiver()); }, true},
}};

template <class Table>
auto find(const Table& table, std::string_view name) {
  return std::find_if(table.begin(), table.end(),
                      [&](const auto& entry) { return std::get<0>(entry) == name; });
}

const TestEntry* find_test(std::string_view name) {
  const auto found =
      std::find_if(tests.begin(), tests.end(), [&](const TestEntry& t) { return t.name == name; });
  return found == tests.end() ? nullptr : &*found;
}

}  // namespace

bool is_filter(std::string_view name) {
  return find(filters, name) != filters.end();
}
bool is_test(std::string_view name) {
  return find_test(name) != nullptr;
}

bool test_takes_argument(std::string_view name) {
  const TestEntry* test = find_test(name);
  return test != nullptr && test->takes_argument;
}

Value apply_filter(std::string_view name, const Arguments& arguments, Budget& budget) {
  return find(filters, name)->second(arguments, budget);
}

bool apply_test(std::string_view name, const Arguments& arguments) {
  return find_test(name)->test(arguments);
}

}  // namespace cga::jinja

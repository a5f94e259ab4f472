// Functions and methods. Filters and tests are in jinja_filters.cpp.
#include "tokenizer/jinja_builtins.h"

#include <algorithm>
#include <array>

#include "tokenizer/jinja_text.h"

namespace cga::jinja {
namespace {

using Kind = Value::Kind;

std::string optional_text(const Value& value) {
  return value.is(Kind::text) ? value.as_text() : std::string();
}

Value strip_method(const Arguments& arguments, Side side) {
  const Value text = arguments.receiver(), set = arguments.get(0, "chars");
  return Value::text(std::string(strip(text.as_text(), side, optional_text(set))));
}

/// str.startswith and str.endswith take one text, or several of which one has to match.
Value matches(const Arguments& arguments, bool (*match)(std::string_view, std::string_view)) {
  const Value given = arguments.get(0, "prefix");
  const std::string& text = arguments.receiver().as_text();
  const List candidates = given.is(Kind::list) ? given.as_list() : List{given};
  return Value::boolean(std::any_of(candidates.begin(), candidates.end(), [&](const Value& candidate) {
    return match(text, candidate.as_text());
  }));
}

Value split_method(const Arguments& arguments) {
  const Value separator = arguments.get(0, "sep"), limit = arguments.get(1, "maxsplit");
  if (separator.is(Kind::text) && separator.as_text().empty()) throw Problem("an empty separator");
  List parts;
  for (std::string& part : split(arguments.receiver().as_text(), optional_text(separator),
                                 limit.is(Kind::undefined) ? -1 : limit.as_integer())) {
    parts.push_back(Value::text(std::move(part)));
  }
  return Value::list(std::move(parts));
}

Value replace_method(const Arguments& arguments, Budget& budget) {
  const std::string text = arguments.receiver().as_text();
  const std::string from = arguments.get(0, "old").as_text(), to = arguments.get(1, "new").as_text();
  if (from.empty()) throw Problem("replace needs something to look for");
  budget.pay(static_cast<std::int64_t>(text.size() / from.size() + 1) * static_cast<std::int64_t>(to.size()));
  return Value::text(replace_all(text, from, to));
}

Value capitalize(const std::string& text) {
  const std::vector<std::string_view> all = characters(text);
  if (all.empty()) return Value::text("");
  return Value::text(to_upper(all[0]) + to_lower(std::string_view(text).substr(all[0].size())));
}

Value dict_part(const Value& dict, std::string_view part) {
  List result;
  for (const auto& [key, value] : dict.as_dict()) {
    if (part == "items") result.push_back(Value::list({Value::text(key), value}));
    if (part == "keys") result.push_back(Value::text(key));
    if (part == "values") result.push_back(value);
  }
  return Value::list(std::move(result));
}

using Method = Value (*)(const Arguments&, Budget&);

constexpr std::array<std::pair<std::string_view, Method>, 14> methods{{
    {"strip", [](const Arguments& a, Budget&) { return strip_method(a, Side::both); }},
    {"lstrip", [](const Arguments& a, Budget&) { return strip_method(a, Side::left); }},
    {"rstrip", [](const Arguments& a, Budget&) { return strip_method(a, Side::right); }},
    {"startswith",
     [](const Arguments& a, Budget&) {
       return matches(a, [](std::string_view text, std::string_view part) { return text.starts_with(part); });
     }},
    {"endswith",
     [](const Arguments& a, Budget&) {
       return matches(a, [](std::string_view text, std::string_view part) { return text.ends_with(part); });
     }},
    {"split", [](const Arguments& a, Budget&) { return split_method(a); }},
    {"upper", [](const Arguments& a, Budget&) { return Value::text(to_upper(a.receiver().as_text())); }},
    {"lower", [](const Arguments& a, Budget&) { return Value::text(to_lower(a.receiver().as_text())); }},
    {"capitalize", [](const Arguments& a, Budget&) { return capitalize(a.receiver().as_text()); }},
    {"replace", replace_method},
    {"items", [](const Arguments& a, Budget&) { return dict_part(a.receiver(), "items"); }},
    {"keys", [](const Arguments& a, Budget&) { return dict_part(a.receiver(), "keys"); }},
    {"values", [](const Arguments& a, Budget&) { return dict_part(a.receiver(), "values"); }},
    {"get",
     [](const Arguments& a, Budget&) {
       const Value found = a.receiver().find(a.get(0, "key").as_text()), fallback = a.get(1, "default");
       a.receiver().as_dict();  // get of something else is a mistake
       if (!found.is(Kind::undefined)) return found;
       return fallback.is(Kind::undefined) ? Value::none() : fallback;
     }},
}};

const Method* find_method(std::string_view name) {
  for (const auto& [known, method] : methods) {
    if (known == name) return &method;
  }
  return nullptr;
}

Value range(const Arguments& arguments, Budget& budget) {
  constexpr std::int64_t longest = 100000;
  const List& bounds = arguments.positional;
  if (bounds.empty() || bounds.size() > 3) throw Problem("range takes one to three integers");
  const std::int64_t first = bounds.size() > 1 ? bounds[0].as_integer() : 0;
  const std::int64_t last = bounds[bounds.size() > 1 ? 1 : 0].as_integer();
  const std::int64_t step = bounds.size() > 2 ? bounds[2].as_integer() : 1;
  if (step == 0) throw Problem("a range's step is zero");
  List result;
  for (std::int64_t i = first; step > 0 ? i < last : i > last;) {
    if (static_cast<std::int64_t>(result.size()) == longest) throw Problem("a range is too long");
    result.push_back(Value::integer(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  budget.pay(static_cast<std::int64_t>(result.size()) * Value::base_weight);
  return Value::list(std::move(result));
}

}  // namespace

Value Arguments::get(std::size_t i, std::string_view name) const {
  if (i + 1 < positional.size()) return positional[i + 1];
  for (const auto& [known, value] : named) {
    if (known == name) return value;
  }
  return {};
}

bool is_method(std::string_view name) {
  return find_method(name) != nullptr;
}

Value call_method(std::string_view name, const Arguments& arguments, Budget& budget) {
  return (*find_method(name))(arguments, budget);
}

Value call_function(std::string_view name, const Arguments& arguments, Budget& budget) {
  if (name == "raise_exception") {
    throw Refused(arguments.positional.empty() ? "no reason given" : to_text(arguments.positional[0]));
  }
  if (name == "range") return range(arguments, budget);
  if (name == "namespace" || name == "dict") {
    Dict entries = arguments.positional.empty() ? Dict() : arguments.positional[0].as_dict();
    for (const auto& [key, value] : arguments.named) {
      const auto old =
          std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return e.first == key; });
      if (old != entries.end()) entries.erase(old);
      entries.emplace_back(key, value);
    }
    return name == "dict" ? Value::dict(std::move(entries)) : Value::name_space(std::move(entries));
  }
  throw Problem("unsupported function '" + std::string(name) + "'");
}

}  // namespace cga::jinja

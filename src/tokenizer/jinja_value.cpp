#include "tokenizer/jinja_value.h"

#include <algorithm>
#include <array>

#include "tokenizer/jinja_text.h"

namespace cga::jinja {

Value Value::none() {
  Value v;
  v.data_ = None{};
  return v;
}

Value Value::boolean(bool value) {
  Value v;
  v.data_ = value;
  return v;
}

Value Value::integer(std::int64_t value) {
  Value v;
  v.data_ = value;
  return v;
}

Value Value::real(double value) {
  Value v;
  v.data_ = value;
  return v;
}

Value Value::text(std::string value) {
  Value v;
  v.data_ = std::make_shared<const std::string>(std::move(value));
  return v;
}

void Value::Shared::add(const Value& value) {
  int inside = 0;
  if (const auto* list = std::get_if<ListRef>(&value.data_)) inside = (*list)->depth;
  if (const auto* dict = std::get_if<DictRef>(&value.data_)) inside = (*dict)->depth;
  // A namespace changes after it was stored, so that it could come to hold itself.
  if (value.is(Kind::name_space)) throw Problem("a namespace cannot be kept inside another value");
  depth = std::max(depth, 1 + inside);
  weight += value.weight();
  if (depth > max_depth) throw Problem("values are nested too deeply");
  if (weight > max_weight) throw Problem("a value is too large");
}

std::int64_t Value::weight() const {
  if (const auto* text = std::get_if<Text>(&data_))
    return base_weight + static_cast<std::int64_t>((*text)->size());
  if (const auto* list = std::get_if<ListRef>(&data_)) return (*list)->weight;
  if (const auto* dict = std::get_if<DictRef>(&data_)) return (*dict)->weight;
  return base_weight;
}

Value Value::list(List items) {
  auto shared = std::make_shared<Shared>();
  for (const Value& item : items) shared->add(item);
  shared->items = std::move(items);
  Value v;
  v.data_ = ListRef{std::move(shared)};
  return v;
}

Value Value::dict(Dict items) {
  auto shared = std::make_shared<Shared>();
  for (const auto& [key, item] : items) shared->add(item);
  shared->entries = std::move(items);
  Value v;
  v.data_ = DictRef{std::move(shared)};
  return v;
}

Value Value::name_space(Dict items) {
  auto shared = std::make_shared<Shared>();
  for (const auto& [key, item] : items) shared->add(item);
  shared->entries = std::move(items);
  Value v;
  v.data_ = NamespaceRef{std::move(shared)};
  return v;
}

bool Value::is_number() const {
  return is(Kind::boolean) || is(Kind::integer) || is(Kind::real);
}

std::string_view Value::kind_name() const {
  constexpr std::array<std::string_view, 9> names{"an undefined value", "none",     "a boolean", "an integer",
                                                  "a number",           "a string", "a list",    "a mapping",
                                                  "a namespace"};
  return names[data_.index()];
}

namespace {

[[noreturn]] void wrong_kind(std::string_view expected, const Value& found) {
  throw Problem("expected " + std::string(expected) + ", found " + std::string(found.kind_name()));
}

}  // namespace

const std::string& Value::as_text() const {
  if (const auto* text = std::get_if<Text>(&data_)) return **text;
  wrong_kind("a string", *this);
}

const List& Value::as_list() const {
  if (const auto* list = std::get_if<ListRef>(&data_)) return (*list)->items;
  wrong_kind("a list", *this);
}

const Dict& Value::as_dict() const {
  if (const auto* dict = std::get_if<DictRef>(&data_)) return (*dict)->entries;
  if (const auto* space = std::get_if<NamespaceRef>(&data_)) return (*space)->entries;
  wrong_kind("a mapping", *this);
}

std::int64_t Value::as_integer() const {
  if (const auto* value = std::get_if<std::int64_t>(&data_)) return *value;
  if (const auto* value = std::get_if<bool>(&data_)) return *value ? 1 : 0;
  wrong_kind("an integer", *this);
}

double Value::as_real() const {
  if (const auto* value = std::get_if<double>(&data_)) return *value;
  if (!is_number()) wrong_kind("a number", *this);
  return static_cast<double>(as_integer());
}

bool Value::truthy() const {
  switch (kind()) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
    case Kind::integer:
    case Kind::real:
      return as_real() != 0;
    case Kind::name_space:
      return true;
    default:
      return is(Kind::text) ? !as_text().empty() : is(Kind::list) ? !as_list().empty() : !as_dict().empty();
  }
}

Value Value::find(std::string_view key) const {
  if (!is(Kind::dict) && !is(Kind::name_space)) return {};
  for (const auto& [name, value] : as_dict()) {
    if (name == key) return value;
  }
  return {};
}

void Value::assign(const std::string& key, Value value) const {
  const auto* space = std::get_if<NamespaceRef>(&data_);
  if (space == nullptr) wrong_kind("a namespace", *this);
  Shared().add(value);  // refuses what cannot be kept
  for (auto& [name, old] : (*space)->entries) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  (*space)->entries.emplace_back(key, std::move(value));
}

List Value::items() const {
  List result;
  if (is(Kind::undefined)) return result;
  if (is(Kind::list)) return as_list();
  if (is(Kind::text)) {
    for (const std::string_view c : characters(as_text())) result.push_back(text(std::string(c)));
    return result;
  }
  if (!is(Kind::dict)) wrong_kind("something to loop over", *this);
  for (const auto& [key, value] : as_dict()) result.push_back(text(key));
  return result;
}

std::int64_t Value::length() const {
  if (is(Kind::undefined)) return 0;
  if (is(Kind::text)) return static_cast<std::int64_t>(characters(as_text()).size());
  if (is(Kind::list)) return static_cast<std::int64_t>(as_list().size());
  if (is(Kind::dict)) return static_cast<std::int64_t>(as_dict().size());
  wrong_kind("something with a length", *this);
}

bool equal(const Value& a, const Value& b) {
  using Kind = Value::Kind;
  if (a.is_number() && b.is_number()) {
    if (a.is(Kind::real) || b.is(Kind::real)) return a.as_real() == b.as_real();
    return a.as_integer() == b.as_integer();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::text:
      return a.as_text() == b.as_text();
    case Kind::list:
      return std::equal(a.as_list().begin(), a.as_list().end(), b.as_list().begin(), b.as_list().end(),
                        equal);
    case Kind::dict: {
      if (a.length() != b.length()) return false;
      const auto& entries = a.as_dict();
      return std::all_of(entries.begin(), entries.end(), [&b](const auto& entry) {
        const auto& others = b.as_dict();
        return std::any_of(others.begin(), others.end(), [&entry](const auto& other) {
          return other.first == entry.first && equal(other.second, entry.second);
        });
      });
    }
    case Kind::name_space:
      return &a.as_dict() == &b.as_dict();
    default:  // both undefined, or both none
      return true;
  }
}

int compare(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    const double x = a.as_real(), y = b.as_real();
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (a.is(Value::Kind::text) && b.is(Value::Kind::text)) {
    const int order = a.as_text().compare(b.as_text());
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  throw Problem("cannot compare " + std::string(a.kind_name()) + " with " + std::string(b.kind_name()));
}

bool contains(const Value& container, const Value& item) {
  using Kind = Value::Kind;
  if (container.is(Kind::undefined)) return false;
  if (container.is(Kind::text)) return container.as_text().find(item.as_text()) != std::string::npos;
  const List items = container.items();
  return std::any_of(items.begin(), items.end(), [&item](const Value& other) { return equal(other, item); });
}

}  // namespace cga::jinja

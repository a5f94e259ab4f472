// Values of the template language: what variables hold and expressions yield. Copies are cheap (texts, lists
// and dicts are shared and never change), and nesting is bounded, so that no recursion over a value runs
// deep.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace cga::jinja {

/// What is wrong with a construct; whoever knows the line turns it into an Error.
struct Problem : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>;  // in order of insertion; keys are texts

class Value {
 public:
  enum class Kind { undefined, none, boolean, integer, real, text, list, dict, name_space };
  static constexpr int max_depth = 64;  // of lists and dicts within each other
  static constexpr std::int64_t base_weight = 64;
  static constexpr std::int64_t max_weight = std::int64_t{1} << 30;

  Value() = default;  // undefined
  static Value none();
  static Value boolean(bool value);
  static Value integer(std::int64_t value);
  static Value real(double value);
  static Value text(std::string value);
  static Value list(List items);
  static Value dict(Dict items);
  static Value name_space(Dict items);

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is(Kind kind) const { return this->kind() == kind; }
  bool is_number() const;  // booleans count as 0 and 1, as in Python
  std::string_view kind_name() const;

  // Each throws Problem, naming what was found, if the value is of another kind.
  const std::string& as_text() const;
  const List& as_list() const;
  const Dict& as_dict() const;  // of a namespace too
  std::int64_t as_integer() const;
  double as_real() const;

  bool truthy() const;
  /// A dict's or namespace's entry; undefined if there is none, or if this is no dict.
  Value find(std::string_view key) const;
  /// Sets an attribute of a namespace, which all copies share.
  void assign(const std::string& key, Value value) const;
  /// What a loop over this value runs through: items, keys or characters; nothing if undefined.
  List items() const;
  std::int64_t length() const;
  /// About the bytes of memory a copy of all of this would take, shared parts counted wherever they occur.
  std::int64_t weight() const;

 private:
  struct Undefined {};
  struct None {};
  struct Shared {  // a list's items or a dict's entries, and how deep and heavy the whole is
    List items;
    Dict entries;
    int depth = 1;
    std::int64_t weight = base_weight;
    void add(const Value& value);
  };
  struct ListRef : std::shared_ptr<const Shared> {};
  struct DictRef : std::shared_ptr<const Shared> {};
  struct NamespaceRef : std::shared_ptr<Shared> {};
  using Text = std::shared_ptr<const std::string>;

  std::variant<Undefined, None, bool, std::int64_t, double, Text, ListRef, DictRef, NamespaceRef> data_;
};

bool equal(const Value& a, const Value& b);
/// -1, 0 or 1 for two numbers or two texts. @throws Problem for anything else
int compare(const Value& a, const Value& b);
/// Python's `item in container`
bool contains(const Value& container, const Value& item);

/// As Python's str() writes it.
std::string to_text(const Value& value);
/// As Python's json.dumps(ensure_ascii=False) writes it. @param indent  negative: all on one line
std::string to_json(const Value& value, int indent = -1);

}  // namespace cga::jinja

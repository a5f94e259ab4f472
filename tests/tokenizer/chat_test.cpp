// Chat templates against jinja2: the checkpoints' own, other families', and the language piece by piece; then
// what is refused, and that hostile templates end.
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "cga/error.h"
#include "cga/tokenizer.h"
#include "support/catch.h"

namespace cga::test {
namespace {

using Json = nlohmann::json;

std::optional<std::string> render(const std::string& source, const std::vector<ChatMessage>& messages,
                                  bool add_generation_prompt, std::string& error) {
  try {
    return ChatTemplate(source, "t", "<s>", "</s>").render(messages, add_generation_prompt);
  } catch (const Error& e) {
    error = e.what();
    return std::nullopt;
  }
}

void check_file(const std::string& name) {
  const Json data = Json::parse(std::ifstream(CGA_VECTORS "/chat/" + name + ".json"));
  REQUIRE_FALSE(data["cases"].empty());
  for (const Json& row : data["cases"]) {
    const std::string source = data["templates"][row["template"].get<std::size_t>()];
    std::vector<ChatMessage> messages;
    for (const Json& m : data["conversations"][row["conversation"].get<std::size_t>()]) {
      messages.push_back({m["role"], m["content"]});
    }
    std::string error;
    const auto found = render(source, messages, row["add_generation_prompt"], error);
    std::optional<std::string> expected;
    if (!row["expected"].is_null()) expected = row["expected"].get<std::string>();
    INFO(source.substr(0, 300) << "\n" << row["conversation"] << "\n" << error);
    CHECK(found.value_or("<error>") == expected.value_or("<error>"));
  }
}

/// The message with which a template is refused, parsed and rendered for one short conversation.
std::string refusal(const std::string& source) {
  std::string error;
  const auto text = render(source, {{"user", "Hi"}}, true, error);
  return text ? "rendered: " + text->substr(0, 100) : error;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string repeat(const std::string& text, std::size_t n) {
  std::string result;
  for (std::size_t i = 0; i < n; ++i) result += text;
  return result;
}

}  // namespace

TEST_CASE("the checkpoints' own templates render as jinja2 renders them") {
  check_file("checkpoints");
}
TEST_CASE("other families' templates render as jinja2 renders them") {
  check_file("families");
}
TEST_CASE("the language, piece by piece, is jinja2's") {
  check_file("language");
}

TEST_CASE("what a template holds beyond the subset is named with its line") {
  CHECK(contains(refusal("a\nb\n{% macro f() %}{% endmacro %}"), "t:3: unsupported statement 'macro'"));
  CHECK(contains(refusal("\n{{ x | urlize }}"), "t:2: unsupported filter 'urlize'"));
  CHECK(contains(refusal("{{ x is sameas 1 }}"), "t:1: unsupported test 'sameas'"));
  CHECK(contains(refusal("{{ 'x'.zfill(3) }}"), "t:1: unsupported method 'zfill'"));
  CHECK(contains(refusal("\n\n{{ cycler(1) }}"), "t:3: unsupported function 'cycler'"));
  CHECK(contains(refusal("{{ a b }}"), "t:1: expected }}, found 'b'"));
  CHECK(contains(refusal("{{ 2 ** 3 }}"), "t:1: expected }}, found '**'"));
  CHECK(contains(refusal("{{ 'a }}"), "a string has no end"));
  CHECK(contains(refusal("{{ 'a'"), "a tag has no end"));
  CHECK(contains(refusal("{# a"), "a comment has no end"));
  CHECK(contains(refusal("{% if a %}b"), "expected endif before the end of the template"));
  CHECK(contains(refusal("{% for a of b %}"), "t:1: expected 'in'"));
  CHECK(contains(refusal("{% break %}"), "unsupported statement 'break'"));
  CHECK(contains(refusal("{{ (1 }}"), "t:1: unexpected '}'"));
  CHECK(contains(refusal("{{ a ? b }}"), "t:1: unexpected '?'"));
  CHECK(contains(refusal("{{ 99999999999999999999 }}"), "99999999999999999999 is too large"));
}

TEST_CASE("every truncation of a template is refused or renders") {
  const std::string source =
      "{%- for m in messages if m.role %}{{ m['content'][1:] | trim ~ \"x\\n\" }}{# c #}{% endfor -%} end";
  for (std::size_t n = 0; n <= source.size(); ++n) {
    std::string error;
    const auto text = render(source.substr(0, n), {{"user", "Hi"}}, true, error);
    CHECK((text.has_value() || !error.empty()));
  }
}

TEST_CASE("a template's own refusal blames the conversation") {
  const ChatTemplate chat("\n{{ raise_exception('Roles must alternate') }}", "t", "", "");
  try {
    chat.render({}, true);
    FAIL("rendered");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    CHECK(contains(error.what(), "t:2: the chat template refuses the conversation: Roles must alternate"));
  }
}

TEST_CASE("hostile templates end with an error") {
  const std::string endless = "runs without end";
  CHECK(contains(refusal("{{ 'x' * 9999999999 }}"), endless));
  CHECK(contains(refusal("{{ ('x' * 9999999999) * 9999999999 }}"), endless));
  CHECK(contains(
      refusal(
          "{% set ns = namespace(a='x') %}{% for i in range(99) %}{% set ns.a = ns.a + ns.a %}{% endfor %}"),
      endless));
  CHECK(contains(refusal(repeat("{% for i in range(99999) %}", 5) + repeat("{% endfor %}", 5)), endless));
  CHECK(contains(refusal("{{ range(999999999) | list }}"), "a range is too long"));
  CHECK(contains(
      refusal("{% set ns = namespace(a=1) %}{% for i in range(999) %}{% set ns.a = [ns.a] %}{% endfor %}"),
      "nested too deeply"));
  CHECK(contains(refusal("{% set ns = namespace(a=1) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] "
                         "%}{% endfor %}{{ ns.a }}"),
                 "too large"));
  CHECK(contains(refusal("{% set ns = namespace(a=1) %}{% set ns.a = ns %}"), "a namespace cannot be kept"));
  CHECK(contains(refusal("{{ " + repeat("(", 5000) + "1" + repeat(")", 5000) + " }}"), "nested too deeply"));
  CHECK(contains(refusal("{{ 1" + repeat(" + 1", 5000) + " }}"), "nested too deeply"));
  CHECK(contains(refusal("{{ a" + repeat("[0]", 5000) + " }}"), "nested too deeply"));
  CHECK(contains(refusal("{{ " + repeat("not ", 5000) + "1 }}"), "nested too deeply"));
  CHECK(contains(refusal("{{ " + repeat("-", 5000) + "1 }}"), "nested too deeply"));
  CHECK(contains(refusal(repeat("{% if 1 %}", 5000) + repeat("{% endif %}", 5000)), "nested too deeply"));
  CHECK(contains(refusal("{{ -9223372036854775807 - 2 }}"), "a number is too large"));
}

TEST_CASE("long conversations and long messages stay within what a template may spend") {
  const ChatTemplate chat(
      "{% for m in messages %}{{ '<' + m.role + '>' + m.content | trim + '\n' }}{% endfor %}", "t", "", "");
  std::vector<ChatMessage> messages(20000, ChatMessage{"user", "x"});
  messages.push_back({"user", std::string(std::size_t{8} << 20, 'y')});
  const std::string text = chat.render(messages, false);
  CHECK(text.size() ==
        20000 * std::string("<user>x\n").size() + std::string("<user>\n").size() + (std::size_t{8} << 20));
}

TEST_CASE("a template can be moved") {
  ChatTemplate a("a{{ bos_token }}", "t", "<s>", ""), b("b", "t", "", "");
  b = std::move(a);
  CHECK(b.render({}, false) == "a<s>");
}

}  // namespace cga::test

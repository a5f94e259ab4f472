// Files of token ids: what is whole is read, what is not is refused with the place named.
#include "tools/cga/commands/perplexity/token_ids.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cga/error.h"
#include "support/catch.h"

namespace cga::cli {
namespace {

using Members = std::vector<std::pair<std::string, std::string>>;  // names and values, as JSON

// The checksum is sha256sum's, of `printf '\1\0\0\0\0\0\0\0\377\377\0\0'`.
const Members members = {
    {"format", R"("cga-token-ids")"},
    {"version", "1"},
    {"name", R"("a text")"},
    {"tokenizer", R"("small, 65536 tokens")"},
    {"source", R"("by hand")"},
    {"bos", "false"},
    {"n_tokens", "3"},
    {"sha256", R"("5a7f84dcd89bc2b2c3cb41ca30ee562f74f1f3b0ca415600d53801825b1115be")"},
    {"ids", "[1, 0, 65535]"},
};

std::string json(const Members& of) {
  std::string text;
  for (const auto& [name, value] : of) {
    text.append(text.empty() ? "{\"" : ", \"").append(name).append("\": ").append(value);
  }
  return text + "}";
}

const std::string whole = json(members);

std::string replaced(std::string text, std::string_view old, std::string_view with) {
  const std::size_t at = text.find(old);
  REQUIRE(at != std::string::npos);
  return text.replace(at, old.size(), with);
}

std::string refusal(const std::string& json) {
  try {
    parse_token_ids(json, "FILE");
  } catch (const Error& error) {
    REQUIRE(error.kind() == ErrorKind::bad_file);
    return error.what();
  }
  return "accepted";
}

bool refused(const std::string& json, std::string_view because) {
  const std::string why = refusal(json);
  INFO(why);
  CHECK(why.find(because) != std::string::npos);
  return why.starts_with("FILE: ") && why.find(because) != std::string::npos;
}

TEST_CASE("a whole file gives its ids") {
  const TokenIds text = parse_token_ids(whole, "FILE");
  CHECK(text.ids == std::vector<TokenId>{1, 0, 65535});
  CHECK(text.name == "a text");
  CHECK(text.tokenizer == "small, 65536 tokens");
  CHECK(text.source == "by hand");
  CHECK_FALSE(text.bos);
  CHECK(parse_token_ids(replaced(whole, "false", "true"), "FILE").bos);
}

TEST_CASE("ids that are not those of the checksum are refused") {
  CHECK(refused(replaced(whole, "65535", "65534"), "sha256"));
  CHECK(refused(replaced(whole, "[1, 0, ", "[0, 1, "), "sha256"));
  CHECK(refused(replaced(whole, "5a7f84", "5a7f85"), "sha256"));
  CHECK(refused(replaced(whole, ", 65535]", "]"), "n_tokens: 3, and there are 2 ids"));
  CHECK(refused(replaced(whole, "\"n_tokens\": 3", "\"n_tokens\": 4"), "n_tokens"));
}

TEST_CASE("ids that are no ids are refused") {
  for (const std::string_view id : {"-1", "1.0", "1e3", "2147483648", "18446744073709551616", "\"1\"", "true",
                                    "null", "[1]", "{}", "[[[[[[[["}) {
    INFO(id);
    CHECK(refused(replaced(whole, "65535", id), "ids[2]: found "));
  }
  CHECK(refused(replaced(whole, "[1, 0, 65535]", "5"), "ids: found a number, expected an array"));
  CHECK(refused(replaced(whole, "[1, 0, 65535]", "{\"0\": 1}"), "ids: found an object, expected an array"));
}

TEST_CASE("ids outside the model's vocabulary are refused") {
  const TokenIds text = parse_token_ids(whole, "FILE");
  require_vocabulary(text, 65536, "FILE");
  try {
    require_vocabulary(text, 65535, "FILE");
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_file);
    CHECK(std::string(error.what()).find("ids[2]: 65535, and the model has 65535 tokens") !=
          std::string::npos);
  }
}

TEST_CASE("members that are missing, repeated, unknown or of another type are refused by name") {
  for (std::size_t i = 0; i < members.size(); ++i) {
    const std::string& name = members[i].first;
    INFO(name);
    Members changed = members;
    changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(i));
    CHECK(refused(json(changed), name + ": missing"));
    changed.push_back(members[i]);
    CHECK(parse_token_ids(json(changed), "FILE").ids.size() == 3);  // any order will do
    changed.push_back(members[i]);
    CHECK(refused(json(changed), name + ": there twice"));
    for (const char* other : {"null", "{}", "1.5", "-1", R"(["a"])"}) {
      changed = members;
      changed[i].second = other;
      CHECK(refused(json(changed), name));
    }
  }
  CHECK(refused(replaced(whole, "\"bos\"", "\"eos\""), "eos: unknown"));
  CHECK(refused(replaced(whole, "\"bos\"", "\"\\u001b[2J\""), "a member: unknown"));
  CHECK(refused(replaced(whole, "\"version\": 1", "\"version\": 2"), "version: 2, expected 1"));
  CHECK(refused(replaced(whole, "cga-token-ids", "cga-sidecar"), "format"));
  CHECK(refused(R"({"format": "cga-token-ids"})", "missing"));
}

TEST_CASE("labels that a terminal would obey are refused, and endless ones") {
  CHECK(refused(replaced(whole, "a text", "\\u001b[2J"), "name: found"));
  CHECK(refused(replaced(whole, "a text", "\\u009b2J"), "name: found"));
  CHECK(refused(replaced(whole, "by hand", std::string(201, 'x')), "source: found 201 bytes"));
}

TEST_CASE("what is no object is refused, and deep nesting before it costs anything") {
  CHECK(refused("", "byte "));
  CHECK(refused("[1, 2]", "JSON: found an array"));
  CHECK(refused("7", "JSON: found a number"));
  CHECK(refused("\"ids\"", "JSON: found a string"));
  CHECK(refused(std::string(1'000'000, '['), "JSON: found an array"));
  CHECK(refused(replaced(whole, "false", std::string(1'000'000, '[')), "bos: found an array"));
  CHECK(refused(whole + "x", "byte "));
}

TEST_CASE("every truncation is refused") {
  for (std::size_t size = 0; size < whole.size(); ++size) {
    INFO("first " << size << " of " << whole.size() << " bytes");
    REQUIRE(refusal(whole.substr(0, size)) != "accepted");
  }
}

}  // namespace
}  // namespace cga::cli

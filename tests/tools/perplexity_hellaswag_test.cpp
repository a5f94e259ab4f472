// HellaSwag tasks: what is whole is read, what is not is refused with its line, and the draw is llama.cpp's.
#include <algorithm>
#include <random>
#include <set>
#include <string>

#include "cga/error.h"
#include "support/catch.h"
#include "tools/cga/commands/perplexity/hellaswag_tasks.h"

namespace cga::cli {
namespace {

const std::string one = "A man sits. he\n2\nstands.\nruns away.\nsleeps.\nsings.\n";
const std::string two = one + "A cat. it\n0\npurrs.\nbarks.\nflies.\nreads.\n";

/// What the refusal says; empty if the text was read.
std::string refusal(const std::string& text) {
  try {
    parse_hellaswag(text, "tasks.txt");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_file);
    return error.what();
  }
  return "";
}

bool says(const std::string& message, const std::string& part) {
  return message.find(part) != std::string::npos;
}

std::string replaced(std::string text, const std::string& old, const std::string& with) {
  return text.replace(text.find(old), old.size(), with);
}

TEST_CASE("tasks are six lines each") {
  const auto tasks = parse_hellaswag(two, "tasks.txt");
  REQUIRE(tasks.size() == 2);
  CHECK(tasks[0].context == "A man sits. he");
  CHECK(tasks[0].gold == 2);
  CHECK(tasks[0].endings[3] == "sings.");
  CHECK(tasks[1].line == 7);
  CHECK(tasks[1].gold == 0);
  CHECK(tasks[1].endings[0] == "purrs.");
  CHECK(parse_hellaswag(two.substr(0, two.size() - 1), "tasks.txt").size() == 2);  // no newline at the end
}

TEST_CASE("text that is no list of tasks is refused with its line") {
  CHECK(says(refusal(""), "found the end after 0 lines"));
  CHECK(says(refusal(one + "A cat. it\n"), "tasks.txt: line 7: found the end after 7 lines"));
  CHECK(says(refusal(two + "\n"), "after 13 lines, expected a multiple of 6"));
  CHECK(says(refusal(replaced(two, "\n0\n", "\n4\n")), "line 8: found '4', expected the label"));
  CHECK(says(refusal(replaced(one, "\n2\n", "\n-1\n")), "line 2: found '-1'"));
  CHECK(says(refusal(replaced(one, "\n2\n", "\n2\r\n")), "line 2: found 2 bytes"));
  CHECK(says(refusal(replaced(two, "flies.", " ")), "line 11: found an empty line, expected an ending"));
  CHECK(says(refusal(replaced(two, "A cat. it", "")), "line 7: found an empty line, expected a context"));
}

TEST_CASE("the draw takes each task once, and all if there are no more") {
  const auto drawn = draw_tasks(50, 400);
  CHECK(drawn.size() == 50);
  CHECK(std::set<std::size_t>(drawn.begin(), drawn.end()).size() == 50);
  CHECK(draw_tasks(1, 1) == std::vector<std::size_t>{0});
}

TEST_CASE("the draw is llama.cpp's") {
  CHECK(draw_tasks(10'042, 8) == std::vector<std::size_t>{4187, 10013, 7233, 9363, 1, 1286, 3036, 10032});
#if defined(_GLIBCXX_RELEASE) && _GLIBCXX_RELEASE >= 11
  std::mt19937 random(1);
  std::vector<std::size_t> left(777), expected;
  for (std::size_t i = 0; i < left.size(); ++i) left[i] = i;
  while (!left.empty()) {
    const std::size_t at = std::uniform_int_distribution<std::size_t>(0, left.size() - 1)(random);
    expected.push_back(left[at]);
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(at));
  }
  CHECK(draw_tasks(777, 777) == expected);
#endif
}

/// A token for each byte.
class Bytes final : public Tokenizer {
 public:
  explicit Bytes(bool adds_bos) : adds_bos_(adds_bos) {}
  std::vector<TokenId> encode(std::string_view text, bool) const override {
    return {text.begin(), text.end()};
  }
  std::string token_bytes(TokenId, bool) const override { return ""; }
  std::int32_t n_vocab() const override { return 257; }
  bool is_end(TokenId) const override { return false; }
  bool adds_bos() const override { return adds_bos_; }
  TokenId bos() const override { return 256; }
  TokenId eos() const override { return -1; }

 private:
  bool adds_bos_;
};

TEST_CASE("what all endings begin with is common, but never the whole of one") {
  HellaswagTask task{1, "ab", 0, {"xyz", "xyw", "xy", "xyzz"}};
  EncodedTask encoded = encode_task(task, Bytes(false), 100, "tasks.txt");
  CHECK(encoded.n_common == 4);  // "ab x"; "y" ends the third
  CHECK(encoded.tokens[2] == std::vector<TokenId>{'a', 'b', ' ', 'x', 'y'});
  CHECK(encode_task(task, Bytes(true), 100, "tasks.txt").n_common == 5);
  task.endings.fill("same");
  encoded = encode_task(task, Bytes(false), 100, "tasks.txt");
  CHECK(encoded.n_common == encoded.tokens[0].size() - 1);
}

TEST_CASE("a task longer than the context is refused with the line of the ending") {
  const HellaswagTask task{7, "ab", 0, {"xyz", "xyw", "xy", "xyzz"}};
  CHECK(encode_task(task, Bytes(false), 7, "tasks.txt").n_common == 4);
  try {
    encode_task(task, Bytes(false), 5, "tasks.txt");
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_file);
    CHECK(says(error.what(), "tasks.txt: line 9: found 6 tokens with the context, expected at most 5"));
  }
}

}  // namespace
}  // namespace cga::cli

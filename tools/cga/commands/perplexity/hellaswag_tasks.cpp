// Reading, drawing and encoding of HellaSwag tasks; see the header.
#include "tools/cga/commands/perplexity/hellaswag_tasks.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "cga/error.h"

namespace cga::cli {
namespace {

constexpr std::size_t lines_of_task = 2 + n_endings;

[[noreturn]] void refuse(const std::string& where, std::size_t line, const std::string& found,
                         const std::string& expected) {
  throw Error(ErrorKind::bad_file, where + ": line " + std::to_string(line),
              "found " + found + ", expected " + expected,
              "a task is six lines: context, label, four endings");
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

std::size_t parse_label(std::string_view line, const std::string& where, std::size_t number) {
  if (line.size() == 1 && line[0] >= '0' && line[0] <= '3') return static_cast<std::size_t>(line[0] - '0');
  const bool printable = std::all_of(line.begin(), line.end(), [](char c) { return c >= ' ' && c <= '~'; });
  const std::string found = printable && line.size() <= 40 ? "'" + std::string(line) + "'"
                                                           : std::to_string(line.size()) + " bytes of text";
  refuse(where, number, found, "the label of an ending, 0 to 3");
}

/// A number below `range`, which is not 0.
std::uint32_t draw_below(std::mt19937& random, std::uint32_t range) {
  const auto draw = [&] { return std::uint64_t{random() & 0xffffffffu} * range; };
  std::uint64_t product = draw();
  const std::uint32_t biased = (0u - range) % range;  // so many low halves come once too often
  while (static_cast<std::uint32_t>(product) < biased) product = draw();
  return static_cast<std::uint32_t>(product >> 32);
}

}  // namespace

std::vector<HellaswagTask> parse_hellaswag(std::string_view text, const std::string& where) {
  const std::vector<std::string_view> lines = lines_of(text);
  if (lines.empty() || lines.size() % lines_of_task != 0) {
    refuse(where, lines.size(), "the end after " + std::to_string(lines.size()) + " lines",
           "a multiple of " + std::to_string(lines_of_task));
  }
  std::vector<HellaswagTask> tasks;
  for (std::size_t at = 0; at < lines.size(); at += lines_of_task) {
    HellaswagTask task;
    task.line = at + 1;
    if (is_blank(lines[at])) refuse(where, at + 1, "an empty line", "a context");
    task.context = lines[at];
    task.gold = parse_label(lines[at + 1], where, at + 2);
    for (std::size_t i = 0; i < n_endings; ++i) {
      if (is_blank(lines[at + 2 + i])) refuse(where, at + 3 + i, "an empty line", "an ending");
      task.endings[i] = lines[at + 2 + i];
    }
    tasks.push_back(std::move(task));
  }
  return tasks;
}

std::vector<std::size_t> draw_tasks(std::size_t n_tasks, std::size_t n_wanted) {
  std::mt19937 random(1);
  std::vector<std::size_t> left(n_tasks), drawn;
  std::iota(left.begin(), left.end(), std::size_t{0});
  while (drawn.size() < n_wanted && !left.empty()) {
    const auto at = left.begin() + draw_below(random, static_cast<std::uint32_t>(left.size()));
    drawn.push_back(*at);
    left.erase(at);
  }
  return drawn;
}

EncodedTask encode_task(const HellaswagTask& task, const Tokenizer& tokenizer, std::int32_t n_ctx,
                        const std::string& where) {
  EncodedTask encoded;
  for (std::size_t i = 0; i < n_endings; ++i) {
    std::vector<TokenId>& tokens = encoded.tokens[i];
    tokens = tokenizer.encode(task.context + " " + task.endings[i], /*parse_special=*/false);
    if (tokenizer.adds_bos()) tokens.insert(tokens.begin(), tokenizer.bos());
    if (tokens.size() > static_cast<std::size_t>(n_ctx)) {
      refuse(where, task.line + 2 + i, std::to_string(tokens.size()) + " tokens with the context",
             "at most " + std::to_string(n_ctx) + " (-c)");
    }
  }
  const auto& first = encoded.tokens[0];
  const auto all_have = [&](std::size_t at) {
    return std::all_of(encoded.tokens.begin(), encoded.tokens.end(),
                       [&](const auto& tokens) { return at + 1 < tokens.size() && tokens[at] == first[at]; });
  };
  while (all_have(encoded.n_common)) ++encoded.n_common;
  if (encoded.n_common == 0) refuse(where, task.line, "a context of no token", "one that endings follow");
  return encoded;
}

}  // namespace cga::cli

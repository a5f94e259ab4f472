#include "tokenizer/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cstdint>
#include <limits>
#include <new>
#include <stdexcept>

#include "tokenizer/utf8.h"

namespace cga {
namespace {

// Patterns as their authors publish them, but for smollm's.
constexpr std::array<PreTokenizer, 4> table{{
    {.name = "gpt2",
     .pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    // Published as two steps: each digit is set apart, then GPT-2's pattern cuts what lies between. In one
    // pattern, a digit is a word, and white space before a digit ends there as it does at the end of a text.
    {.name = "smollm",
     .pattern = R"(\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+)"},
    {.name = "llama-bpe",
     .pattern =
         R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
         R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
     .whole_words = true},
    {.name = "qwen2",
     .pattern = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
                R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
     .nfc = true},
}};

/// Spells out \s and \S as Unicode's White_Space, which is what the authors' regex engines mean by them:
/// PCRE2 counts U+180E besides. `\S` must stand outside of brackets.
std::string spell_out_white_space(std::string_view pattern) {
  constexpr std::string_view white_space =
      R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
  std::string result;
  bool in_brackets = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const std::string_view escape = pattern.substr(i, 2);
    if (escape == R"(\s)" && in_brackets) {
      result.append(white_space);
    } else if (escape == R"(\s)" || escape == R"(\S)") {
      result.append(escape == R"(\s)" ? "[" : "[^").append(white_space).append("]");
    } else if (pattern[i] == '\\') {
      result.append(escape);
    } else {
      if (pattern[i] == '[' || pattern[i] == ']') in_brackets = pattern[i] == '[';
      result.push_back(pattern[i]);
      continue;
    }
    ++i;  // the escape's second character
  }
  return result;
}

PCRE2_SPTR8 units(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR8>(text.data());
}

}  // namespace

const PreTokenizer* find_pre_tokenizer(std::string_view name) {
  for (const PreTokenizer& entry : table) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

std::string pre_tokenizer_names() {
  std::string names;
  for (const PreTokenizer& entry : table) names.append(names.empty() ? "" : ", ").append(entry.name);
  return names;
}

WordPattern::WordPattern(std::string_view pattern) {
  int error = 0;
  std::size_t offset = 0;
  const std::string spelled = spell_out_white_space(pattern);
  pcre2_code* code =
      pcre2_compile(units(spelled), spelled.size(), PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (code == nullptr) throw std::logic_error("the table of pre-tokenizers holds a malformed pattern");
  code_ = std::shared_ptr<const void>(code, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); });
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where there is no JIT, matching interprets
  // Megabytes of white space take one step a byte, which the default limit would not allow.
  pcre2_match_context* limits = pcre2_match_context_create(nullptr);
  if (limits == nullptr) throw std::bad_alloc();
  limits_ = std::shared_ptr<pcre2_match_context>(limits, pcre2_match_context_free);
  pcre2_set_match_limit(limits, std::numeric_limits<std::uint32_t>::max());
}

WordReader::WordReader(const WordPattern& pattern, std::string_view text)
    : pattern_(pattern), text_(text), match_(pcre2_match_data_create(1, nullptr), pcre2_match_data_free) {
  if (match_ == nullptr) throw std::bad_alloc();
}

std::string_view WordReader::take(std::size_t end) {
  const std::string_view word = text_.substr(at_, end - at_);
  at_ = end;
  return word;
}

std::string_view WordReader::next() {
  if (at_ == run_end_) {
    const std::string_view rest = text_.substr(at_);
    if (const std::size_t broken = ill_formed_prefix(rest); broken > 0) {
      run_ = run_end_ = at_ + broken;
      return take(run_end_);
    }
    run_ = at_;
    run_end_ = at_ + well_formed_prefix(rest);
    if (run_ == run_end_) return {};
  }
  const std::string_view run = text_.substr(run_, run_end_ - run_);
  auto* match = static_cast<pcre2_match_data*>(match_.get());
  const int found =
      pcre2_match(static_cast<const pcre2_code*>(pattern_.code_.get()), units(run), run.size(), at_ - run_,
                  PCRE2_NO_UTF_CHECK, match, static_cast<pcre2_match_context*>(pattern_.limits_.get()));
  if (found < 0) return take(run_end_);
  const std::size_t* bounds = pcre2_get_ovector_pointer(match);
  const std::size_t begin = run_ + bounds[0], end = run_ + bounds[1];
  if (begin > at_) return take(begin);
  return take(end > begin ? end : run_end_);
}

}  // namespace cga

// Pre-tokenizers: how a text is cut into words before bytes are merged; no token ever crosses a word. The
// table in pre_tokenizer.cpp is the one place to add another.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace cga {

struct PreTokenizer {
  std::string_view name;     // tokenizer.ggml.pre
  std::string_view pattern;  // PCRE2, what a word is
  bool nfc = false;          // text is brought to Unicode's normal form C first
  bool whole_words = false;  // a word that is a token stays one, whatever the merges say
};

/// @return nullptr for an unknown name
const PreTokenizer* find_pre_tokenizer(std::string_view name);

/// "gpt2, smollm, …", for messages
std::string pre_tokenizer_names();

/// A compiled pattern. Immutable.
class WordPattern {
 public:
  explicit WordPattern(std::string_view pattern);

 private:
  friend class WordReader;
  std::shared_ptr<const void> code_;  // pcre2_code, kept out of this header
  std::shared_ptr<void> limits_;      // pcre2_match_context
};

/// Reads a text word by word. Nothing is lost: what lies between two matches is a word too, and so is each
/// run of bytes that is not UTF-8.
class WordReader {
 public:
  WordReader(const WordPattern& pattern, std::string_view text);

  /// @return the next word; empty at the end
  std::string_view next();

 private:
  std::string_view take(std::size_t end);

  const WordPattern& pattern_;
  std::string_view text_;
  std::size_t at_ = 0;   // what was read
  std::size_t run_ = 0;  // the well-formed run that is being read: [run_, run_end_)
  std::size_t run_end_ = 0;
  std::shared_ptr<void> match_;  // pcre2_match_data
};

}  // namespace cga

// Cuts a template into text and the tokens inside of its tags, with white space around tags taken away as
// Hugging Face's settings ask: trim_blocks, lstrip_blocks, and no newline kept at the end.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cga::jinja {

struct Token {
  enum class Kind {
    text,
    output_begin,
    output_end,
    block_begin,
    block_end,
    name,
    string,
    integer,
    real,
    sign,
    end
  };
  Kind kind = Kind::end;
  std::string text;  // of a string: what it stands for
  int line = 0;
};

/// @throws Error (bad_file) naming `origin`, line and what cannot be read
std::vector<Token> tokenize(std::string_view source, std::string_view origin);

}  // namespace cga::jinja

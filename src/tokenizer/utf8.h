// Where UTF-8 is well formed and where it is not. Texts and tokens may hold any bytes, so every reader of
// code points asks here first.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace cga {

/// What the first bytes of a text are.
struct Utf8Piece {
  enum class State {
    whole,   ///< a well-formed code point
    broken,  ///< bytes that no continuation can repair
    cut,     ///< a code point that is well formed so far, where the text ends
  };
  State state = State::whole;
  std::size_t length =
      0;  ///< of a broken piece: the bytes that one U+FFFD stands for (Unicode 3.9, table 3-8)
};

/// @param text  not empty
Utf8Piece first_utf8_piece(std::string_view text);

/// The length of the longest well-formed prefix.
std::size_t well_formed_prefix(std::string_view text);

/// The length of the prefix that holds no well-formed code point.
std::size_t ill_formed_prefix(std::string_view text);

/// Appends a code point as UTF-8.
void append_utf8(std::string& out, char32_t code_point);

inline constexpr std::string_view replacement_character = "\xef\xbf\xbd";  // U+FFFD

}  // namespace cga

// GPT-2's printable byte alphabet: vocabularies are text files, so each byte is written as one printable
// character. Printable Latin-1 bytes stand for themselves; the others, in order, for U+0100, U+0101, …
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace cga {

class ByteAlphabet {
 public:
  ByteAlphabet();

  /// The character that stands for a byte, as UTF-8.
  std::string_view character(std::uint8_t byte) const { return characters_[byte]; }

  /// Appends the bytes that `written` stands for. Characters outside the alphabet stand for themselves.
  void append_bytes(std::string& out, std::string_view written) const;

 private:
  static constexpr std::size_t n_code_points = 0x144;  // one past the last character of the alphabet

  std::array<std::string, 256> characters_;
  std::array<std::int16_t, n_code_points> bytes_;  // by code point; -1: not in the alphabet
};

}  // namespace cga

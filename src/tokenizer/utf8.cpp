#include "tokenizer/utf8.h"

#include <cstdint>
#include <cstring>

namespace cga {
namespace {

/// What a lead byte promises: the length, and the range of the second byte, which alone excludes overlong
/// forms, surrogates and code points beyond U+10FFFF. Length 0: no code point starts with this byte.
struct Lead {
  std::size_t length;
  unsigned char low, high;
};

Lead read_lead(unsigned char byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xc2) return {0, 0, 0};
  if (byte < 0xe0) return {2, 0x80, 0xbf};
  if (byte == 0xe0) return {3, 0xa0, 0xbf};
  if (byte == 0xed) return {3, 0x80, 0x9f};
  if (byte < 0xf0) return {3, 0x80, 0xbf};
  if (byte == 0xf0) return {4, 0x90, 0xbf};
  if (byte < 0xf4) return {4, 0x80, 0xbf};
  if (byte == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

std::size_t ascii_prefix(std::string_view text) {
  std::size_t n = 0;
  for (std::uint64_t word; n + sizeof word <= text.size(); n += sizeof word) {
    std::memcpy(&word, text.data() + n, sizeof word);
    if ((word & 0x8080808080808080u) != 0) break;
  }
  while (n < text.size() && static_cast<unsigned char>(text[n]) < 0x80) ++n;
  return n;
}

}  // namespace

Utf8Piece first_utf8_piece(std::string_view text) {
  using State = Utf8Piece::State;
  const Lead lead = read_lead(static_cast<unsigned char>(text.front()));
  if (lead.length == 0) return {State::broken, 1};
  for (std::size_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {State::cut, i};
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool continues = i == 1 ? byte >= lead.low && byte <= lead.high : (byte & 0xc0) == 0x80;
    if (!continues) return {State::broken, i};
  }
  return {State::whole, lead.length};
}

std::size_t well_formed_prefix(std::string_view text) {
  std::size_t n = 0;
  while (true) {
    n += ascii_prefix(text.substr(n));
    if (n == text.size()) return n;
    const Utf8Piece piece = first_utf8_piece(text.substr(n));
    if (piece.state != Utf8Piece::State::whole) return n;
    n += piece.length;
  }
}

std::size_t ill_formed_prefix(std::string_view text) {
  std::size_t n = 0;
  while (n < text.size()) {
    const Utf8Piece piece = first_utf8_piece(text.substr(n));
    if (piece.state == Utf8Piece::State::whole) break;
    n += piece.length;
  }
  return n;
}

void append_utf8(std::string& out, char32_t code_point) {
  const auto put = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xc0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    put(0xe0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3f));
    put(0x80 | (code_point & 0x3f));
  } else {
    put(0xf0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3f));
    put(0x80 | ((code_point >> 6) & 0x3f));
    put(0x80 | (code_point & 0x3f));
  }
}

}  // namespace cga

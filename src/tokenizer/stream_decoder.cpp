// StreamDecoder: tokens end anywhere, also inside a code point, but text must not.
#include "cga/tokenizer.h"
#include "tokenizer/utf8.h"

namespace cga {

std::string StreamDecoder::push(TokenId id) {
  held_ += tokenizer_.token_bytes(id);
  std::string text;
  std::size_t at = 0;
  while (at < held_.size()) {
    const std::string_view rest = std::string_view(held_).substr(at);
    if (const std::size_t whole = well_formed_prefix(rest); whole > 0) {
      text.append(rest, 0, whole);
      at += whole;
      continue;
    }
    const Utf8Piece piece = first_utf8_piece(rest);
    if (piece.state == Utf8Piece::State::cut) break;
    text.append(replacement_character);
    at += piece.length;
  }
  held_.erase(0, at);
  return text;
}

std::string StreamDecoder::finish() {
  if (held_.empty()) return {};
  held_.clear();
  return std::string(replacement_character);
}

}  // namespace cga

#include "tokenizer/byte_alphabet.h"

#include "tokenizer/utf8.h"

namespace cga {
namespace {

bool is_printable_latin1(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

}  // namespace

ByteAlphabet::ByteAlphabet() {
  bytes_.fill(-1);
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char32_t code_point = is_printable_latin1(byte) ? byte : next++;
    append_utf8(characters_[byte], code_point);
    bytes_[code_point] = static_cast<std::int16_t>(byte);
  }
}

void ByteAlphabet::append_bytes(std::string& out, std::string_view written) const {
  for (std::size_t i = 0; i < written.size();) {
    const auto lead = static_cast<unsigned char>(written[i]);
    const Utf8Piece piece = first_utf8_piece(written.substr(i));
    std::size_t code_point = n_code_points;
    if (lead < 0x80) code_point = lead;
    if (piece.state == Utf8Piece::State::whole && piece.length == 2) {
      code_point =
          static_cast<std::size_t>(lead & 0x1f) << 6 | (static_cast<unsigned char>(written[i + 1]) & 0x3f);
    }
    if (code_point < n_code_points && bytes_[code_point] >= 0) {
      out.push_back(static_cast<char>(bytes_[code_point]));
    } else {
      out.append(written, i, piece.length);
    }
    i += piece.length;
  }
}

}  // namespace cga

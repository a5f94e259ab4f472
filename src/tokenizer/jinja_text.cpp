#include "tokenizer/jinja_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>

#include "tokenizer/utf8.h"

namespace cga::jinja {
namespace {

/// The code point of one well-formed character; -1 for a byte that is none.
utf8proc_int32_t decode(std::string_view character) {
  utf8proc_int32_t code_point = -1;
  utf8proc_iterate(reinterpret_cast<const std::uint8_t*>(character.data()),
                   static_cast<utf8proc_ssize_t>(character.size()), &code_point);
  return code_point;
}

std::string_view first_character(std::string_view text) {
  const Utf8Piece piece = first_utf8_piece(text);
  return text.substr(0, piece.state == Utf8Piece::State::whole ? piece.length : 1);
}

std::string_view last_character(std::string_view text) {
  for (std::size_t length = 2; length <= 4 && length <= text.size(); ++length) {
    const std::string_view tail = text.substr(text.size() - length);
    if (first_character(tail).size() == length) return tail;
  }
  return text.substr(text.size() - 1);
}

template <class Map>
std::string map_characters(std::string_view text, Map map) {
  std::string result;
  for (const std::string_view c : characters(text)) {
    const utf8proc_int32_t code_point = decode(c);
    if (code_point < 0) {
      result.append(c);
    } else {
      append_utf8(result, static_cast<char32_t>(map(code_point)));
    }
  }
  return result;
}

}  // namespace

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> result;
  while (!text.empty()) {
    result.push_back(first_character(text));
    text.remove_prefix(result.back().size());
  }
  return result;
}

bool is_space(std::string_view character) {
  const utf8proc_int32_t c = decode(character);
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

std::string_view strip(std::string_view text, Side side, std::string_view set) {
  const std::vector<std::string_view> members = characters(set);
  const auto goes = [&](std::string_view c) {
    return set.empty() ? is_space(c) : std::find(members.begin(), members.end(), c) != members.end();
  };
  while (side != Side::right && !text.empty()) {
    const std::string_view first = first_character(text);
    if (!goes(first)) break;
    text.remove_prefix(first.size());
  }
  while (side != Side::left && !text.empty()) {
    const std::string_view last = last_character(text);
    if (!goes(last)) break;
    text.remove_suffix(last.size());
  }
  return text;
}

std::string to_upper(std::string_view text) {
  return map_characters(text, utf8proc_toupper);
}
std::string to_lower(std::string_view text) {
  return map_characters(text, utf8proc_tolower);
}

std::vector<std::string> split(std::string_view text, std::string_view separator, std::ptrdiff_t limit) {
  std::vector<std::string> parts;
  if (separator.empty()) {
    for (text = strip(text, Side::left); !text.empty(); text = strip(text, Side::left)) {
      if (limit-- == 0) {
        parts.emplace_back(strip(text, Side::right));
        break;
      }
      std::size_t length = 0;
      while (length < text.size()) {
        const std::string_view c = first_character(text.substr(length));
        if (is_space(c)) break;
        length += c.size();
      }
      parts.emplace_back(text.substr(0, length));
      text.remove_prefix(length);
    }
    return parts;
  }
  while (true) {
    const std::size_t at = limit-- == 0 ? std::string_view::npos : text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + separator.size());
  }
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  if (from.empty()) return std::string(text);
  std::string result;
  for (std::size_t at = text.find(from); at != std::string_view::npos; at = text.find(from)) {
    result.append(text.substr(0, at)).append(to);
    text.remove_prefix(at + from.size());
  }
  return result.append(text);
}

}  // namespace cga::jinja

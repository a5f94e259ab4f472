// Composing refusals; the only place where the format layer throws.
#include "format/refusal.h"

#include "cga/error.h"

namespace cga {

void refuse(std::string_view file, const Refusal& refusal) {
  std::string where(file);
  where.append(": ").append(refusal.field);
  std::string problem("found ");
  problem.append(refusal.found).append(", expected ").append(refusal.expected);
  throw Error(ErrorKind::bad_file, where, problem, refusal.remedy);
}

std::string printable(std::string_view text, std::size_t limit) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::size_t end = text.size() < limit ? text.size() : limit;
  // Not in the middle of a UTF-8 code point.
  while (end > 0 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  std::string line;
  for (const char c : text.substr(0, end)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      line += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      line.append("\\x").append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
    } else {
      line += c;
    }
  }
  if (end < text.size()) line.append("… (").append(std::to_string(text.size())).append(" bytes)");
  return line;
}

std::string quoted(std::string_view text) {
  std::string line = printable(text);
  line.insert(line.begin(), '"');
  line.push_back('"');
  return line;
}

}  // namespace cga

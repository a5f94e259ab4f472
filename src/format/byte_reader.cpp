// The parts of ByteReader that need not be inline: counts and refusals.
#include "format/byte_reader.h"

#include <utility>

namespace cga {

ByteReader::ByteReader(std::span<const std::byte> bytes, std::string file)
    : bytes_(bytes), file_(std::move(file)) {}

std::size_t ByteReader::count(std::size_t min_bytes, std::string_view field) {
  const auto n = number<std::uint64_t>(field);
  const std::size_t most = remaining() / min_bytes;
  if (n > most) {
    fail(field, std::to_string(n),
         "at most " + std::to_string(most) + ", which the remaining " + std::to_string(remaining()) +
             " bytes could hold");
  }
  return static_cast<std::size_t>(n);
}

void ByteReader::fail(std::string_view field, std::string_view found, std::string_view expected,
                      std::string_view remedy) const {
  std::string full = section_;
  if (!full.empty()) full += ", ";
  full += field;
  refuse(file_, {full, found, expected, remedy});
}

void ByteReader::refuse_short(std::uint64_t n_bytes, std::string_view field) const {
  fail(field, std::to_string(remaining()) + " bytes left at offset " + std::to_string(offset_),
       std::to_string(n_bytes));
}

}  // namespace cga

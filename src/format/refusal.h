// How a file is refused: one sentence that names file, field, what was found, what was expected, and what to
// do.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace cga {

inline constexpr std::string_view fetch_again = "the file is damaged or cut short: fetch it again";

/// What is wrong with a field. `found` and `expected` are noun phrases: "version 1", "version 2 or 3".
struct Refusal {
  std::string_view field;  // "key general.alignment", "tensor output.weight, offset"
  std::string_view found;
  std::string_view expected;
  std::string_view remedy = fetch_again;
};

/// @throws Error (bad_file): "<file>: <field>: found <found>, expected <expected>; <remedy>"
[[noreturn]] void refuse(std::string_view file, const Refusal& refusal);

/// Text from a file as it may be shown in one line: control bytes escaped, at most `limit` bytes of it.
std::string printable(std::string_view text, std::size_t limit = 80);

std::string quoted(std::string_view text);  ///< printable, in double quotes

}  // namespace cga

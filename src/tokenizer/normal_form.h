// Unicode's normal form C (composed characters), which some models' tokenizers bring text to first.
#pragma once

#include <string>
#include <string_view>

namespace cga {

/// Whether any character is in the range where forms can differ: false is certain and cheap.
bool may_change_in_nfc(std::string_view text);

/// @return `text` in normal form C; bytes that are not UTF-8 are kept as they are
std::string to_nfc(std::string_view text);

}  // namespace cga

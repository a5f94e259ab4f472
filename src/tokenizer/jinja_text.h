// Text as Python's str sees it: characters are code points, and white space is Unicode's.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cga::jinja {

/// The code points of a text, each as UTF-8; a byte that is not UTF-8 counts as one.
std::vector<std::string_view> characters(std::string_view text);

bool is_space(std::string_view character);

enum class Side { left, right, both };
/// str.strip: removes the characters in `set`, or white space if it is empty.
std::string_view strip(std::string_view text, Side side = Side::both, std::string_view set = {});

// str.upper and str.lower, character by character.
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);

/// str.split: by runs of white space if `separator` is empty. @param limit  splits at most; negative: all
std::vector<std::string> split(std::string_view text, std::string_view separator, std::ptrdiff_t limit);

std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace cga::jinja

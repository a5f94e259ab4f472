#include "tokenizer/normal_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "tokenizer/utf8.h"

namespace cga {
namespace {

void append_nfc(std::string& out, std::string_view well_formed) {
  std::uint8_t* composed = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const std::uint8_t*>(well_formed.data()),
                   static_cast<utf8proc_ssize_t>(well_formed.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<std::uint8_t, decltype(&std::free)> owner(composed, &std::free);
  if (length < 0) throw std::bad_alloc();  // the only failure left for well-formed text
  out.append(reinterpret_cast<const char*>(composed), static_cast<std::size_t>(length));
}

}  // namespace

bool may_change_in_nfc(std::string_view text) {
  // Everything below U+0300 is composed and combines with nothing before it; U+0300 begins with the byte CC.
  return std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0xcc; });
}

std::string to_nfc(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const std::size_t whole = well_formed_prefix(text);
    if (whole > 0) append_nfc(result, text.substr(0, whole));
    text.remove_prefix(whole);
    const std::size_t broken = ill_formed_prefix(text);
    result.append(text, 0, broken);
    text.remove_prefix(broken);
  }
  return result;
}

}  // namespace cga

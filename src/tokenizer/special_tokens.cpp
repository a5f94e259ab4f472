#include "tokenizer/special_tokens.h"

#include <algorithm>

namespace cga {

void SpecialTokens::add(std::string_view text, TokenId id, bool control) {
  if (text.empty()) return;
  std::vector<Entry>& entries = by_first_byte_[static_cast<unsigned char>(text.front())];
  if (entries.empty()) first_bytes_.push_back(text.front());
  const auto shorter = std::find_if(entries.begin(), entries.end(),
                                    [&](const Entry& entry) { return entry.text.size() < text.size(); });
  entries.insert(shorter, Entry{std::string(text), id, control});
}

std::optional<SpecialTokens::Match> SpecialTokens::find(std::string_view text, std::size_t from,
                                                        bool with_control) const {
  const auto next_candidate = [&](std::size_t at) {
    return first_bytes_.size() == 1 ? text.find(first_bytes_.front(), at)
                                    : text.find_first_of(first_bytes_, at);
  };
  for (std::size_t at = next_candidate(from); at != std::string_view::npos; at = next_candidate(at + 1)) {
    const std::string_view rest = text.substr(at);
    for (const Entry& entry : by_first_byte_[static_cast<unsigned char>(text[at])]) {
      if (entry.control && !with_control) continue;
      if (rest.starts_with(entry.text)) return Match{at, entry.text.size(), entry.id};
    }
  }
  return std::nullopt;
}

}  // namespace cga

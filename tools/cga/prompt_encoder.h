// A conversation as tokens. The template's own text may hold control tokens; what people typed may not: a
// message that contains "<|im_end|>" is read as those ten letters and ends nothing.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cga/engine.h"
#include "cga/tokenizer.h"

namespace cga::cli {

/// A message, and for an answer the tokens it was sampled as. Encoding its text again may give other tokens,
/// and the cache of the conversation would be lost from there on.
struct Turn {
  ChatMessage message;
  std::vector<TokenId> tokens;  // empty: encode the text
};

class PromptEncoder {
 public:
  PromptEncoder(const Tokenizer& tokenizer, ChatTemplate chat_template)
      : tokenizer_(tokenizer), template_(std::move(chat_template)) {}

  /// The conversation up to the opening of the next answer.
  /// @throws Error (usage) if the template cannot carry a message that contains control tokens
  std::vector<TokenId> encode(std::span<const Turn> turns) const;

 private:
  const Tokenizer& tokenizer_;
  ChatTemplate template_;
};

/// Plain text as tokens, control tokens recognised: whoever writes raw text writes its structure, too.
std::vector<TokenId> encode_raw(const Tokenizer& tokenizer, std::string_view text);

/// The template in `file` if given, else the model's own; nullopt if it has none.
/// @throws Error (bad_file, io)
std::optional<ChatTemplate> load_chat_template(const Engine& engine, const std::filesystem::path& file);

}  // namespace cga::cli

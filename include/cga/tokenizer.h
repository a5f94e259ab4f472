// Text to token ids and back, and the chat template that came with a model.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cga {

using TokenId = std::int32_t;

/// One turn of a conversation. Roles are the template's: "system", "user", "assistant".
struct ChatMessage {
  std::string role;
  std::string content;
};

/// A byte-level BPE tokenizer with its special tokens. Immutable; safe to share between threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Encodes UTF-8 text as the package `tokenizers` does, normal form included. Bytes that are not UTF-8 are
  /// kept as words of their own. A byte that has no token, as some vocabularies leave out, is dropped.
  /// @param parse_special  recognise special tokens such as <|im_start|> in the text; off for user text
  virtual std::vector<TokenId> encode(std::string_view text, bool parse_special) const = 0;

  /// The bytes of one token; control tokens are empty unless `special` is set.
  virtual std::string token_bytes(TokenId id, bool special = false) const = 0;

  /// The bytes of a sequence: the concatenation of token_bytes.
  std::string decode(std::span<const TokenId> ids, bool special = false) const;

  virtual std::int32_t n_vocab() const = 0;
  virtual bool is_end(TokenId id) const = 0;  ///< end of text or end of turn: generation stops here
  virtual bool adds_bos() const = 0;          ///< the model wants bos() in front of every text
  virtual TokenId bos() const = 0;            ///< -1 if the vocabulary has none
  virtual TokenId eos() const = 0;            ///< -1 if the vocabulary has none
};

/// Turns a stream of tokens into text without ever splitting a UTF-8 code point: bytes are held back until
/// the code point they begin is whole. Invalid sequences become U+FFFD.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// @return the text that became printable with this token; often empty inside an emoji
  std::string push(TokenId id);

  /// @return what is still held back, with U+FFFD for an unfinished code point
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string held_;
};

/// A chat template in the Jinja dialect model files carry.
class ChatTemplate {
 public:
  /// Parses `source`. @throws Error (bad_file) naming `origin`, line and construct it cannot read
  ChatTemplate(std::string_view source, std::string_view origin, std::string_view bos, std::string_view eos);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  /// @param add_generation_prompt  end with the opening of the assistant's turn
  std::string render(std::span<const ChatMessage> messages, bool add_generation_prompt) const;

 private:
  struct Program;
  std::unique_ptr<Program> program_;
};

}  // namespace cga

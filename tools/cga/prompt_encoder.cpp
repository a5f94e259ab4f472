// The template is rendered twice: with the messages, and with marks in their place. The marks tell which text
// is the template's and which is a message's, so that each can be encoded for what it is.
#include "tools/cga/prompt_encoder.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "cga/error.h"
#include "tools/cga/options.h"

namespace cga::cli {
namespace {

constexpr std::string_view kWhiteSpace = " \t\n\r\f\v";
// Many templates trim messages. The white space around a mark shows whether this one does.
constexpr std::string_view kBeforeMark = " \n\t";
constexpr std::string_view kMarkBegin = "@cga-message-";
constexpr char kMarkEnd = '@';
constexpr std::string_view kAfterMark = "\t\n ";

std::string mark(std::size_t index) {
  std::string text(kBeforeMark);
  text += kMarkBegin;
  text += std::to_string(index);
  text += kMarkEnd;
  text += kAfterMark;
  return text;
}

/// A stretch of the rendered template: its own text, or a message.
struct Piece {
  const Turn* turn = nullptr;  // null: the template's own text
  std::string_view text;       // the message as the template shows it, trimmed or not
};

/// Splits what the template made of the marks. Pieces point into `rendered` and `turns`.
std::vector<Piece> split(std::string_view rendered, std::span<const Turn> turns) {
  std::vector<Piece> pieces;
  for (;;) {
    const std::size_t begin = rendered.find(kMarkBegin);
    if (begin == std::string_view::npos) break;
    const std::string_view number = rendered.substr(begin + kMarkBegin.size());
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), index);
    if (error != std::errc() || index >= turns.size() || end == number.data() + number.size()) break;

    std::string_view before = rendered.substr(0, begin);
    std::string_view after = number.substr(static_cast<std::size_t>(end - number.data()) + 1);
    std::string_view message = turns[index].message.content;
    if (before.ends_with(kBeforeMark)) {
      before.remove_suffix(kBeforeMark.size());
    } else {
      message.remove_prefix(std::min(message.find_first_not_of(kWhiteSpace), message.size()));
    }
    if (after.starts_with(kAfterMark)) {
      after.remove_prefix(kAfterMark.size());
    } else {
      message = message.substr(0, message.find_last_not_of(kWhiteSpace) + 1);
    }
    pieces.push_back({nullptr, before});
    pieces.push_back({&turns[index], message});
    rendered = after;
  }
  pieces.push_back({nullptr, rendered});
  return pieces;
}

std::string join(std::span<const Piece> pieces) {
  std::string text;
  for (const Piece& piece : pieces) text += piece.text;
  return text;
}

/// Encodes pieces as one text: between two control tokens, template and message are one run, because a word
/// may begin with the template's line break and end in the message.
std::vector<TokenId> encode_pieces(const Tokenizer& tokenizer, std::span<const Piece> pieces) {
  std::vector<TokenId> ids;
  std::string run;
  const auto append = [&ids](std::span<const TokenId> more) {
    ids.insert(ids.end(), more.begin(), more.end());
  };
  const auto end_run = [&] { append(tokenizer.encode(std::exchange(run, ""), false)); };
  for (const Piece& piece : pieces) {
    if (piece.turn == nullptr) {
      for (const TokenId id : tokenizer.encode(piece.text, true)) {
        const std::string text = tokenizer.token_bytes(id);
        run += text;
        if (!text.empty()) continue;
        end_run();
        ids.push_back(id);
      }
    } else if (!piece.turn->tokens.empty() && piece.text == piece.turn->message.content) {
      end_run();
      append(piece.turn->tokens);
    } else {
      run += piece.text;
    }
  }
  end_run();
  return ids;
}

void add_bos(const Tokenizer& tokenizer, std::vector<TokenId>& ids) {
  const bool there = !ids.empty() && ids.front() == tokenizer.bos();
  if (tokenizer.adds_bos() && !there) ids.insert(ids.begin(), tokenizer.bos());
}

/// For a template that looks into its messages or changes them: what it makes of the marks says nothing about
/// the text then. It is encoded whole, which is safe as long as no message holds a control token.
std::vector<TokenId> encode_whole(const Tokenizer& tokenizer, std::string_view text,
                                  std::span<const Turn> turns) {
  for (const Turn& turn : turns) {
    const std::string& content = turn.message.content;
    if (tokenizer.encode(content, true) == tokenizer.encode(content, false)) continue;
    throw Error(ErrorKind::usage, turn.message.role + " message",
                "it contains control tokens of this model, which its chat template does not keep apart",
                "remove them, or write the whole prompt yourself with generate --raw");
  }
  return tokenizer.encode(text, true);
}

}  // namespace

std::vector<TokenId> PromptEncoder::encode(std::span<const Turn> turns) const {
  std::vector<ChatMessage> messages, marks;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    messages.push_back(turns[i].message);
    marks.push_back({turns[i].message.role, mark(i)});
  }
  const std::string text = template_.render(messages, true);
  const std::string marked = template_.render(marks, true);
  const std::vector<Piece> pieces = split(marked, turns);
  std::vector<TokenId> ids =
      join(pieces) == text ? encode_pieces(tokenizer_, pieces) : encode_whole(tokenizer_, text, turns);
  add_bos(tokenizer_, ids);
  return ids;
}

std::vector<TokenId> encode_raw(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<TokenId> ids = tokenizer.encode(text, true);
  add_bos(tokenizer, ids);
  return ids;
}

std::optional<ChatTemplate> load_chat_template(const Engine& engine, const std::filesystem::path& file) {
  if (file.empty() && !engine.chat_template()) return std::nullopt;
  const Tokenizer& tokenizer = engine.tokenizer();
  const auto text_of = [&](TokenId id) { return id < 0 ? std::string() : tokenizer.token_bytes(id, true); };
  const std::string source = file.empty() ? *engine.chat_template() : read_text_file(file);
  const std::string origin =
      file.empty() ? engine.options().model.string() + ", 'tokenizer.chat_template'" : file.string();
  return ChatTemplate(source, origin, text_of(tokenizer.bos()), text_of(tokenizer.eos()));
}

}  // namespace cga::cli

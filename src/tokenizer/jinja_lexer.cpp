#include "tokenizer/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "cga/error.h"
#include "tokenizer/jinja_text.h"
#include "tokenizer/utf8.h"

namespace cga::jinja {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/// Newlines become \n, and one at the end is dropped.
std::string normalise(std::string_view source) {
  std::string text = replace_all(replace_all(source, "\r\n", "\n"), "\r", "\n");
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  Lexer(std::string_view source, std::string_view origin) : text_(normalise(source)), origin_(origin) {}

  std::vector<Token> run();

 private:
  using Kind = Token::Kind;

  [[noreturn]] void refuse(const std::string& problem) const;
  std::string_view rest() const { return std::string_view(text_).substr(at_); }
  void add(Kind kind, std::string text) { tokens_.push_back(Token{kind, std::move(text), line_}); }
  void skip(std::size_t n);

  void read_text();
  void read_comment();
  void read_tag(char closing);
  bool read_closing(char closing);
  void read_token();
  void read_string();
  void append_escape(std::string& out);
  void read_number();

  std::string text_, origin_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  // whether what was read last ended a line
  std::vector<char> open_;   // brackets of the current tag
  std::vector<Token> tokens_;
};

void Lexer::refuse(const std::string& problem) const {
  throw Error(ErrorKind::bad_file, origin_ + ":" + std::to_string(line_), problem,
              "the template is damaged, or beyond the supported subset of Jinja");
}

void Lexer::skip(std::size_t n) {
  const auto from = text_.begin() + static_cast<std::ptrdiff_t>(at_);
  line_ += static_cast<int>(std::count(from, from + static_cast<std::ptrdiff_t>(n), '\n'));
  at_ += n;
}

std::vector<Token> Lexer::run() {
  while (at_ < text_.size()) {
    read_text();
    if (at_ == text_.size()) break;
    const char opening = text_[at_ + 1];
    skip(2);
    if (!rest().empty() && (rest().front() == '-' || rest().front() == '+')) skip(1);
    if (opening == '#') {
      read_comment();
    } else {
      add(opening == '{' ? Kind::output_begin : Kind::block_begin, "");
      read_tag(opening == '{' ? '}' : '%');
    }
  }
  add(Kind::end, "");
  return std::move(tokens_);
}

/// Reads up to the next tag, and takes away the white space that the tag's opening says.
void Lexer::read_text() {
  std::size_t end = at_;
  do {
    end = text_.find('{', end);
    if (end != std::string::npos && end + 1 < text_.size() &&
        std::string_view("{%#").find(text_[end + 1]) != std::string_view::npos) {
      break;
    }
    if (end != std::string::npos) ++end;
  } while (end != std::string::npos);
  std::string_view text = rest().substr(0, end == std::string::npos ? end : end - at_);
  const std::size_t length = text.size();
  if (end != std::string::npos) {
    const char sign = end + 2 < text_.size() ? text_[end + 2] : ' ';
    if (sign == '-') {
      text = strip(text, Side::right);
    } else if (sign != '+' && text_[end + 1] != '{') {
      const std::size_t newline = text.rfind('\n');
      const std::size_t line = newline == std::string_view::npos ? 0 : newline + 1;
      if ((line > 0 || line_starts_) && strip(text.substr(line)).empty()) text = text.substr(0, line);
    }
  }
  if (!text.empty()) add(Kind::text, std::string(text));
  skip(length);
}

void Lexer::read_comment() {
  const std::size_t end = rest().find("#}");
  if (end == std::string_view::npos) refuse("a comment has no end");
  skip(end == 0 ? 0 : end - 1);
  if (end > 0 && rest().front() != '-' && rest().front() != '+') skip(1);
  read_closing('#');
}

void Lexer::read_tag(char closing) {
  open_.clear();
  while (true) {
    skip(rest().size() - strip(rest(), Side::left).size());
    if (rest().empty()) refuse("a tag has no end");
    const int line = line_;
    if (open_.empty() && read_closing(closing)) {
      tokens_.push_back(Token{closing == '}' ? Kind::output_end : Kind::block_end, "", line});
      return;
    }
    read_token();
  }
}

/// Reads the end of a tag, if it is here, with the white space that it takes away.
bool Lexer::read_closing(char closing) {
  const char sign = rest().front() == '-' || (rest().front() == '+' && closing != '}') ? rest().front() : ' ';
  const std::string end = (sign == ' ' ? "" : std::string(1, sign)) + closing + '}';
  if (!rest().starts_with(end)) return false;
  const std::size_t begin = at_;
  skip(end.size());
  if (sign == '-') {
    skip(rest().size() - strip(rest(), Side::left).size());
  } else if (sign == ' ' && closing != '}' && rest().starts_with('\n')) {
    skip(1);
  }
  line_starts_ = at_ > begin && text_[at_ - 1] == '\n';
  return true;
}

void Lexer::read_token() {
  const char c = rest().front();
  if (c == '"' || c == '\'') return read_string();
  if (is_digit(c)) return read_number();
  if (is_name_start(c)) {
    std::size_t n = 1;
    while (n < rest().size() && (is_name_start(rest()[n]) || is_digit(rest()[n]))) ++n;
    add(Kind::name, std::string(rest().substr(0, n)));
    return skip(n);
  }
  constexpr std::array<std::string_view, 6> long_signs{"==", "!=", "<=", ">=", "//", "**"};
  for (const std::string_view sign : long_signs) {
    if (!rest().starts_with(sign)) continue;
    add(Kind::sign, std::string(sign));
    return skip(sign.size());
  }
  if (std::string_view("+-*/%~<>=.,:|()[]{}").find(c) == std::string_view::npos) {
    refuse("unexpected '" + std::string(1, c) + "'");
  }
  if (c == '(' || c == '[' || c == '{') open_.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
  if (c == ')' || c == ']' || c == '}') {
    if (open_.empty() || open_.back() != c) refuse("unexpected '" + std::string(1, c) + "'");
    open_.pop_back();
  }
  add(Kind::sign, std::string(1, c));
  skip(1);
}

void Lexer::read_string() {
  const char quote = rest().front();
  const int line = line_;
  std::string value;
  skip(1);
  while (!rest().empty() && rest().front() != quote) {
    if (rest().front() == '\\' && rest().size() > 1) {
      append_escape(value);
    } else {
      value += rest().front();
      skip(1);
    }
  }
  if (rest().empty()) refuse("a string has no end");
  skip(1);
  tokens_.push_back(Token{Kind::string, std::move(value), line});
}

/// Python's escapes; an unknown one stands for itself.
void Lexer::append_escape(std::string& out) {
  constexpr std::string_view letters = "abfnrtv\\'\"", meanings = "\a\b\f\n\r\t\v\\'\"";
  const char c = rest()[1];
  if (const std::size_t i = letters.find(c); i != std::string_view::npos) {
    out += meanings[i];
    return skip(2);
  }
  const std::size_t n_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  if (c == '\n') return skip(2);
  if (n_digits == 0) {
    out.append("\\").append(1, c);
    return skip(2);
  }
  char32_t code = 0;
  for (std::size_t i = 0; i < n_digits; ++i) {
    const char digit = i + 2 < rest().size() ? rest()[i + 2] : ' ';
    const char lower = static_cast<char>(digit | 0x20);
    if (!is_digit(digit) && (lower < 'a' || lower > 'f')) refuse("a string holds a malformed escape");
    code = code * 16 + static_cast<char32_t>(is_digit(digit) ? digit - '0' : lower - 'a' + 10);
  }
  if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) refuse("a string escapes what is no character");
  append_utf8(out, code);
  skip(2 + n_digits);
}

void Lexer::read_number() {
  std::size_t n = 0;
  const auto read_digits = [&] {
    while (n < rest().size() && is_digit(rest()[n])) ++n;
  };
  read_digits();
  const bool is_real = n + 1 < rest().size() && rest()[n] == '.' && is_digit(rest()[n + 1]);
  if (is_real) {
    ++n;
    read_digits();
  }
  add(is_real ? Kind::real : Kind::integer, std::string(rest().substr(0, n)));
  skip(n);
}

}  // namespace

std::vector<Token> tokenize(std::string_view source, std::string_view origin) {
  return Lexer(source, origin).run();
}

}  // namespace cga::jinja

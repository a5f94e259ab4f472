// Two ways to read a line. Both wait for input and for a signal at once, so that Ctrl-C is never lost in a
// read.
#include "tools/cga/line_reader.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>
#include <new>
#include <utility>

#include "cga/error.h"
#include "tools/cga/console.h"

namespace cga::cli {
namespace {

/// Bytes from standard input as they come. @return how many; 0 at the end or when a signal is pending
std::size_t read_some(const Interrupts& interrupts, char* out, std::size_t most) {
  for (;;) {
    std::array<pollfd, 2> waits = {pollfd{STDIN_FILENO, POLLIN, 0}, pollfd{interrupts.fd(), POLLIN, 0}};
    if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) break;
    if (interrupts.pending() != 0) return 0;
    if (waits[0].revents == 0) continue;
    const ssize_t n = ::read(STDIN_FILENO, out, most);
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno != EINTR && errno != EAGAIN) break;
  }
  throw Error(ErrorKind::io, "standard input", std::strerror(errno));
}

class PipeReader final : public LineReader {
 public:
  explicit PipeReader(const Interrupts& interrupts) : interrupts_(interrupts) {}

  std::optional<std::string> read() override {
    std::size_t end = buffer_.find('\n');
    while (end == std::string::npos) {
      std::array<char, 4096> bytes;
      const std::size_t n = read_some(interrupts_, bytes.data(), bytes.size());
      if (n == 0) return take_rest();
      buffer_.append(bytes.data(), n);
      end = buffer_.find('\n', buffer_.size() - n);
    }
    std::string line = buffer_.substr(0, end);
    buffer_.erase(0, end + 1);
    return line;
  }

  bool is_interactive() const override { return false; }

 private:
  /// A last line need not end in a line break.
  std::optional<std::string> take_rest() {
    if (buffer_.empty() || interrupts_.pending() != 0) return std::nullopt;
    return std::exchange(buffer_, "");
  }

  const Interrupts& interrupts_;
  std::string buffer_;
};

class TerminalReader final : public LineReader {
 public:
  explicit TerminalReader(const Interrupts& interrupts) : interrupts_(interrupts) {
    std::setlocale(LC_CTYPE, "");  // libedit measures characters by it
    // The prompt goes to standard error: standard output carries answers only.
    edit_.reset(::el_init("cga", stdin, stderr, stderr));
    history_.reset(::history_init());
    if (!edit_ || !history_) throw std::bad_alloc();
    HistEvent event;
    ::history(history_.get(), &event, H_SETSIZE, 1000);
    ::el_set(edit_.get(), EL_CLIENTDATA, this);
    ::el_set(edit_.get(), EL_PROMPT, &prompt);
    ::el_set(edit_.get(), EL_EDITOR, "emacs");
    ::el_set(edit_.get(), EL_HIST, &::history, history_.get());
    ::el_set(edit_.get(), EL_GETCFN, &read_character);
  }

  std::optional<std::string> read() override {
    int length = 0;
    const char* text = ::el_gets(edit_.get(), &length);
    if (text == nullptr || length <= 0) {
      std::fputc('\n', stderr);
      return std::nullopt;
    }
    HistEvent event;
    std::string line(text, static_cast<std::size_t>(length));
    if (line != "\n") ::history(history_.get(), &event, H_ENTER, line.c_str());
    if (line.ends_with('\n')) line.pop_back();
    return line;
  }

  bool is_interactive() const override { return true; }

 private:
  static char* prompt(EditLine* edit) {
    TerminalReader* self = nullptr;
    ::el_get(edit, EL_CLIENTDATA, &self);
    return self->prompt_.data();
  }

  /// One character for libedit: 1 and the character, 0 at the end, -1 when a signal is pending.
  static int read_character(EditLine* edit, wchar_t* character) {
    TerminalReader* self = nullptr;
    ::el_get(edit, EL_CLIENTDATA, &self);
    std::mbstate_t state{};
    for (;;) {
      char byte = 0;
      if (read_some(self->interrupts_, &byte, 1) == 0) return self->interrupts_.pending() != 0 ? -1 : 0;
      const std::size_t n = std::mbrtowc(character, &byte, 1, &state);
      if (n == 0 || n == 1) return 1;
      if (n == static_cast<std::size_t>(-1)) state = {};  // not of this character set: skip the byte
    }
  }

  struct EndEdit {
    void operator()(EditLine* edit) const { ::el_end(edit); }
  };
  struct EndHistory {
    void operator()(History* history) const { ::history_end(history); }
  };

  const Interrupts& interrupts_;
  std::string prompt_ = "> ";
  std::unique_ptr<History, EndHistory> history_;
  std::unique_ptr<EditLine, EndEdit> edit_;
};

}  // namespace

std::unique_ptr<LineReader> make_line_reader(const Interrupts& interrupts) {
  if (is_terminal(STDIN_FILENO)) return std::make_unique<TerminalReader>(interrupts);
  return std::make_unique<PipeReader>(interrupts);
}

}  // namespace cga::cli

// Standard output and the progress line on standard error.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

namespace cga::cli {

/// Gives the numbers of standard streams that were closed (`cga … >&-`) to something that fails when it is
/// used: a file that is opened later must not become standard output.
void hold_standard_streams();

/// Whoever read our output went away (`cga … | head`): the run ends without a word, as `cat` does.
struct BrokenPipe : std::exception {
  const char* what() const noexcept override { return "the reader of standard output went away"; }
};

/// Standard output, unbuffered, so that a streamed token is seen at once. Everything written arrives or
/// throws.
class Output {
 public:
  Output();
  /// @throws Error (io), BrokenPipe
  void write(std::string_view text);
  bool is_terminal() const { return is_terminal_; }

 private:
  bool is_terminal_;
};

/// Tells on standard error how far work has come once it takes more than a second: a line that is rewritten
/// on a terminal, a line every ten seconds elsewhere.
class Progress {
 public:
  explicit Progress(std::string label, std::int64_t total = 0);
  ~Progress();  ///< removes the line from a terminal
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(std::int64_t done);  ///< of the total: "reading: 12 of 40 (30 %)"
  void update_share(double done);  ///< in [0, 1], where nothing is counted: "loading: 30 %"

 private:
  void say(double share, std::string_view counts);

  using Clock = std::chrono::steady_clock;

  std::string label_;
  std::int64_t total_;
  bool is_terminal_;
  bool shown_ = false;
  Clock::time_point next_;  // when to speak again
};

/// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

std::string format_count(std::int64_t n);      ///< 12,345
std::string format_bytes(std::int64_t bytes);  ///< 98.4 MB; decimal units, as bandwidths are
bool is_terminal(int fd);

}  // namespace cga::cli

// Writing to the two standard streams, and counting for people.
#include "tools/cga/console.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "cga/error.h"

namespace cga::cli {

bool is_terminal(int fd) {
  return ::isatty(fd) == 1;
}

void hold_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    // The lowest free number is `fd`. Open for the wrong direction, so that reading or writing is an error.
    [[maybe_unused]] const int held = ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

Output::Output() : is_terminal_(cli::is_terminal(STDOUT_FILENO)) {}

void Output::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n >= 0) {
      text.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno == EPIPE) {
      throw BrokenPipe();
    } else if (errno != EINTR) {
      throw Error(ErrorKind::io, "standard output", std::strerror(errno), "check the free space");
    }
  }
}

Progress::Progress(std::string label, std::int64_t total)
    : label_(std::move(label)),
      total_(total),
      is_terminal_(cli::is_terminal(STDERR_FILENO)),
      next_(Clock::now() + std::chrono::seconds(1)) {}

Progress::~Progress() {
  if (shown_ && is_terminal_) std::fputs("\r\033[K", stderr);
}

void Progress::update(std::int64_t done) {
  const double share = total_ > 0 ? static_cast<double>(done) / static_cast<double>(total_) : 1.0;
  say(share, format_count(done) + " of " + format_count(total_));
}

void Progress::update_share(double done) {
  say(done, "");
}

void Progress::say(double share, std::string_view counts) {
  const auto now = Clock::now();
  if (now < next_) return;
  next_ = now + (is_terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10'000));
  const auto percent = static_cast<int>(100 * share);
  const std::string state =
      counts.empty() ? fmt::format("{} %", percent) : fmt::format("{} ({} %)", counts, percent);
  const std::string text =
      fmt::format("{}cga: {}: {}{}", is_terminal_ ? "\r\033[K" : "", label_, state, is_terminal_ ? "" : "\n");
  std::fputs(text.c_str(), stderr);
  shown_ = true;
}

std::string format_count(std::int64_t n) {
  std::string digits = std::to_string(n);
  const std::size_t first = n < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > first + 3;) {
    i -= 3;
    digits.insert(i, ",");
  }
  return digits;
}

std::string format_bytes(std::int64_t bytes) {
  constexpr std::array<const char*, 5> units = {"B", "KB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 999.5 && unit + 1 < units.size(); ++unit) value /= 1000;
  return fmt::format("{:.{}f} {}", value, unit == 0 || value >= 99.95 ? 0 : 1, units[unit]);
}

}  // namespace cga::cli

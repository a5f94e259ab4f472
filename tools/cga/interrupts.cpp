// One thread that waits for the signals a run can be stopped with.
#include "tools/cga/interrupts.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "cga/error.h"

namespace cga::cli {
namespace {

bool is_ignored(int signal) {
  struct sigaction action {};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

Interrupts::Interrupts() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (fd_ < 0) throw Error(ErrorKind::io, "eventfd", std::strerror(errno));
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGTERM);
  if (!is_ignored(SIGINT)) sigaddset(&signals_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  watcher_ = std::thread([this] { watch(); });
}

Interrupts::~Interrupts() {
  stop_ = true;
  pthread_kill(watcher_.native_handle(), SIGTERM);  // wakes the watcher only
  watcher_.join();
  ::close(fd_);
}

void Interrupts::clear() {
  pending_ = 0;
  std::uint64_t count = 0;
  [[maybe_unused]] const auto n = ::read(fd_, &count, sizeof count);  // EAGAIN: nothing was pending
}

void Interrupts::watch() {
  for (;;) {
    int signal = 0;
    if (sigwait(&signals_, &signal) != 0) continue;
    if (stop_) return;
    if (!polling_ || pending_ != 0) std::_Exit(exit_code(signal));
    pending_ = signal;
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = ::write(fd_, &one, sizeof one);
  }
}

}  // namespace cga::cli

// Ctrl-C and SIGTERM as something a command looks at between two steps, not as code that runs anywhere.
// The signals are blocked in every thread, and one thread waits for them: no handler, no global state.
#pragma once

#include <atomic>
#include <csignal>
#include <thread>

namespace cga::cli {

class Interrupts {
 public:
  /// Blocks SIGINT and SIGTERM here and in all threads started later: construct it before any thread.
  /// A signal that was ignored when the program started (nohup, a background job) stays ignored.
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  /// While one of these is alive, a signal is only noted: the owner promises to look at pending() every
  /// moment. At other times, and at a second signal before the first was cleared, the process ends at once
  /// with 128 + signal.
  class Polling {
   public:
    explicit Polling(Interrupts& interrupts) : interrupts_(interrupts) { interrupts_.polling_ = true; }
    ~Polling() { interrupts_.polling_ = false; }
    Polling(const Polling&) = delete;
    Polling& operator=(const Polling&) = delete;

   private:
    Interrupts& interrupts_;
  };

  int pending() const { return pending_; }  ///< the signal that arrived, 0 if none
  void clear();                             ///< the signal was dealt with
  int fd() const { return fd_; }            ///< readable while a signal is pending, for poll()

  /// The exit code of a run that a signal ended.
  static int exit_code(int signal) { return 128 + signal; }

 private:
  void watch();

  sigset_t signals_{};
  int fd_ = -1;
  std::atomic<int> pending_{0};
  std::atomic<bool> polling_{false};
  std::atomic<bool> stop_{false};
  std::thread watcher_;
};

}  // namespace cga::cli

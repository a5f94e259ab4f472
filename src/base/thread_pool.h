// Threads for fork-join loops a few microseconds long: workers spin for a moment before they sleep, because
// a decode step forks hundreds of times.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace cga {

class ThreadPool {
 public:
  /// @param n_threads  threads that work in a loop, the calling one included; at least 1
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls body(task, thread) once for each task in [0, n_tasks), in any order, and returns when all are
  /// done. `thread` is in [0, size()). The body must not throw. Calls must not overlap or nest.
  template <class Body>
  void parallel_for(std::int64_t n_tasks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    if (n_tasks <= 1 || workers_.empty()) {
      for (std::int64_t i = 0; i < n_tasks; ++i) body(i, 0);
      return;
    }
    run(n_tasks, const_cast<void*>(static_cast<const void*>(&body)),
        [](void* context, std::int64_t task, int thread) { (*static_cast<Plain*>(context))(task, thread); });
  }

 private:
  using Call = void (*)(void* context, std::int64_t task, int thread);

  void run(std::int64_t n_tasks, void* context, Call call);
  void work(int thread);
  void drain(int thread);

  std::vector<std::thread> workers_;
  // One loop's description; written before `round_` is advanced, read after.
  void* context_ = nullptr;
  Call call_ = nullptr;
  std::int64_t n_tasks_ = 0;
  bool stop_ = false;
  alignas(64) std::atomic<std::int64_t> next_{0};
  alignas(64) std::atomic<std::uint32_t> round_{0};
  alignas(64) std::atomic<int> busy_{0};
};

}  // namespace cga

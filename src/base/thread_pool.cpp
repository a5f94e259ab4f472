#include "base/thread_pool.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace cga {
namespace {

// About 100 microseconds: longer than the serial work between two loops of a decode step, short enough that
// an idle engine sleeps.
constexpr int spin_rounds = 4000;

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

/// Waits until `value` differs from `old`: spinning first, then asleep.
template <class T>
void wait_change(const std::atomic<T>& value, T old) {
  for (int i = 0; i < spin_rounds; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) {
  workers_.reserve(static_cast<std::size_t>(n_threads > 1 ? n_threads - 1 : 0));
  for (int thread = 1; thread < n_threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(std::int64_t n_tasks, void* context, Call call) {
  context_ = context;
  call_ = call;
  n_tasks_ = n_tasks;
  next_.store(0, std::memory_order_relaxed);
  busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  drain(0);
  for (int left = busy_.load(std::memory_order_acquire); left != 0;
       left = busy_.load(std::memory_order_acquire)) {
    wait_change(busy_, left);
  }
}

void ThreadPool::work(int thread) {
  std::uint32_t seen = 0;
  for (;;) {
    wait_change(round_, seen);
    ++seen;
    if (stop_) return;
    drain(thread);
    // The last worker out wakes the caller; the loop's description may be overwritten from then on.
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
  }
}

void ThreadPool::drain(int thread) {
  for (std::int64_t task = next_.fetch_add(1, std::memory_order_relaxed); task < n_tasks_;
       task = next_.fetch_add(1, std::memory_order_relaxed)) {
    call_(context_, task, thread);
  }
}

}  // namespace cga

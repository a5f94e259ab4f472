// Splits a loop over equal rows among threads when it is long enough to pay for the fork.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/checked.h"
#include "base/thread_pool.h"

namespace cga::cpu {

/// Elements a task: about ten microseconds of arithmetic, several times a fork.
inline constexpr std::int64_t task_elements = 16 << 10;

/// Calls body(first, last) on consecutive ranges that cover [0, n_rows).
template <class Body>
void split_rows(ThreadPool& pool, std::int64_t n_rows, std::int64_t elements_per_row, Body&& body) {
  const std::int64_t rows =
      std::max<std::int64_t>(1, task_elements / std::max<std::int64_t>(1, elements_per_row));
  if (n_rows <= rows || pool.size() == 1) {
    if (n_rows > 0) body(std::int64_t{0}, n_rows);
    return;
  }
  pool.parallel_for(div_up(n_rows, rows),
                    [&](std::int64_t task, int) { body(task * rows, std::min(n_rows, (task + 1) * rows)); });
}

}  // namespace cga::cpu

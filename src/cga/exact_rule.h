// Which tokens a query reads exactly, and which from the archive: a function of its position and two
// settings, so that neither chunking nor what else runs can change a result (docs/cga.md, "What is exact").
#pragma once

#include <algorithm>
#include <cstdint>

#include "tensor/kv_layout.h"

namespace cga {

struct ExactRule {
  std::int32_t window = 0;       // tokens before the query that are exact at least; a multiple of 64
  std::int32_t sparse_from = 0;  // positions below this read everything exactly; a multiple of 64

  /// The query at `position` reads exactly: the first unit, and all pages from this one on. What lies between
  /// is read from the archive. 0: everything is exact. Never falls as positions grow.
  std::int32_t first_exact_page(std::int32_t position) const {
    if (position < sparse_from) return 0;
    return std::max(0, position - window) / page_tokens;
  }

  /// Positions from `position` up to this one share its first exact page, and may be run as one batch.
  std::int32_t run_end(std::int32_t position) const {
    if (position < sparse_from) return sparse_from;
    return (position / page_tokens + 1) * page_tokens;
  }
};

}  // namespace cga

#include "cache/page_pool.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace cga {

PagePool::PagePool(std::int32_t n_pages) : free_(static_cast<std::size_t>(n_pages)) {
  std::iota(free_.begin(), free_.end(), 0);  // ascending: already a heap with the lowest on top
}

std::int32_t PagePool::take() {
  std::pop_heap(free_.begin(), free_.end(), std::greater<>{});
  const std::int32_t page = free_.back();
  free_.pop_back();
  return page;
}

void PagePool::give_back(std::int32_t page) {
  free_.push_back(page);
  std::push_heap(free_.begin(), free_.end(), std::greater<>{});
}

}  // namespace cga

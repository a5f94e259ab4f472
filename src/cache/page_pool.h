// Which pages are free. A page id stands for the same 64 tokens in every layer.
#pragma once

#include <cstdint>
#include <vector>

namespace cga {

class PagePool {
 public:
  explicit PagePool(std::int32_t n_pages);

  std::int32_t n_free() const { return static_cast<std::int32_t>(free_.size()); }

  /// The lowest free id first, so that a lone sequence lies in order. Requires n_free() > 0.
  std::int32_t take();
  void give_back(std::int32_t page);

 private:
  std::vector<std::int32_t> free_;  // a heap, lowest id on top
};

}  // namespace cga

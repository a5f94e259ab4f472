#include "kernels/cpu/matmul/aligned_memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

#include "base/checked.h"

namespace cga::cpu {
namespace {

constexpr std::size_t cache_line = 64;
constexpr std::size_t large_page = std::size_t{2} << 20;

}  // namespace

AlignedMemory::AlignedMemory(std::size_t bytes) : size_(bytes) {
  const std::size_t alignment = bytes >= 2 * large_page ? large_page : cache_line;
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, round_up(bytes, alignment))));
  if (data_ == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  // Advice: where it is not taken, small pages work as well, only a little slower.
  if (alignment == large_page) madvise(data_.get(), round_up(bytes, alignment), MADV_HUGEPAGE);
#endif
}

void AlignedMemory::Free::operator()(std::byte* data) const {
  std::free(data);
}

}  // namespace cga::cpu

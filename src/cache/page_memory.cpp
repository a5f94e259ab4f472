#include "cache/page_memory.h"

namespace cga {

PageMemory::PageMemory(Backend& backend, const KvLayout& layout, std::int32_t n_layers, std::int32_t n_pages,
                       std::int32_t n_shared, std::string_view purpose)
    : layout_(layout), n_layers_(n_layers), n_pages_(n_pages) {
  const std::int64_t all = std::int64_t{n_layers} * n_pages + n_shared;
  buffer_ = backend.allocate(static_cast<std::size_t>(all * layout.page_bytes()), purpose);
}

LayerPages PageMemory::layer(std::int32_t index) const {
  return {buffer_->data() + std::int64_t{index} * n_pages_ * layout_.page_bytes(), layout_};
}

}  // namespace cga

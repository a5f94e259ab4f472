#include "cache/page_memory.h"

namespace cga {
namespace {

/// Resident pages where a page of bf16 lies.
constexpr std::int64_t residents_a_page = 2;

KvLayout resident_layout(const KvLayout& layout) {
  return {layout.n_kv_heads, layout.head_dim, KvElement::i8};
}

}  // namespace

PageMemory::PageMemory(Backend& backend, const KvLayout& layout, std::int32_t n_layers, std::int32_t n_pages,
                       std::int32_t n_shared, std::string_view purpose, bool residents)
    : layout_(layout), n_layers_(n_layers), n_pages_(n_pages) {
  const std::int64_t all = std::int64_t{n_layers} * n_pages + n_shared;
  buffer_ = backend.allocate(static_cast<std::size_t>(all * layout.page_bytes()), purpose);
  if (!residents) return;
  const std::int64_t scale_bytes = residents_a_page * resident_layout(layout).page_scale_bytes();
  scales_ = backend.allocate(static_cast<std::size_t>(all * scale_bytes), "scales of residents");
}

LayerPages PageMemory::layer(std::int32_t index) const {
  return {buffer_->data() + std::int64_t{index} * n_pages_ * layout_.page_bytes(), layout_};
}

LayerPages PageMemory::residents(std::int32_t index) const {
  const KvLayout layout = resident_layout(layout_);
  const std::int64_t first = std::int64_t{index} * n_pages_ * residents_a_page;
  return {buffer_->data() + first * layout.page_bytes(), layout,
          scales_->data() + first * layout.page_scale_bytes()};
}

std::int64_t PageMemory::resident_page_bytes(const KvLayout& layout) {
  const KvLayout residents = resident_layout(layout);
  return residents_a_page * (residents.page_bytes() + residents.page_scale_bytes());
}

}  // namespace cga

// The memory of pages of exact keys and values: as many for every layer, under the same ids, and behind them
// some that all layers share.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "backend/backend.h"
#include "kernels/ops.h"

namespace cga {

class PageMemory {
 public:
  /// Takes address space; on the CPU, memory only as pages are written.
  /// @param n_shared  pages that one layer after another may use, beside each layer's own n_pages
  /// @throws Error (memory) naming the bytes and `purpose`
  PageMemory(Backend& backend, const KvLayout& layout, std::int32_t n_layers, std::int32_t n_pages,
             std::int32_t n_shared, std::string_view purpose);

  const KvLayout& layout() const { return layout_; }
  LayerPages layer(std::int32_t index) const;

  /// The id under which a layer reaches shared page j: ids count pages from the layer's own first one.
  std::int32_t shared_id(std::int32_t layer, std::int32_t j) const {
    return (n_layers_ - layer) * n_pages_ + j;
  }

 private:
  KvLayout layout_;
  std::int32_t n_layers_, n_pages_;
  std::unique_ptr<Buffer> buffer_;  // [n_layers * n_pages + n_shared, page_bytes]
};

}  // namespace cga

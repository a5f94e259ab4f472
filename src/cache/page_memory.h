// The memory of pages of exact keys and values: as many for every layer, under the same ids, and behind them
// some that all layers share. A page may hold residents instead, twice as many tokens.
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
  /// @param n_shared   pages that one layer after another may use, beside each layer's own n_pages
  /// @param residents  whether pages, then of bf16, may hold residents
  /// @throws Error (memory) naming the bytes and `purpose`
  PageMemory(Backend& backend, const KvLayout& layout, std::int32_t n_layers, std::int32_t n_pages,
             std::int32_t n_shared, std::string_view purpose, bool residents = false);

  const KvLayout& layout() const { return layout_; }
  LayerPages layer(std::int32_t index) const;

  /// The same memory as pages of residents: those with ids 2p and 2p + 1 lie where page p lies.
  LayerPages residents(std::int32_t index) const;

  /// Of a page of bf16 that holds residents, with their scales.
  static std::int64_t resident_page_bytes(const KvLayout& layout);

  /// The id under which a layer reaches shared page j: ids count pages from the layer's own first one.
  std::int32_t shared_id(std::int32_t layer, std::int32_t j) const {
    return (n_layers_ - layer) * n_pages_ + j;
  }

 private:
  KvLayout layout_;
  std::int32_t n_layers_, n_pages_;
  std::unique_ptr<Buffer> buffer_;  // [n_layers * n_pages + n_shared, page_bytes]
  std::unique_ptr<Buffer> scales_;  // [n_layers * n_pages + n_shared, 2, page_scale_bytes of residents]
};

}  // namespace cga

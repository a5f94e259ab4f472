// How the keys of the index lie in memory: int8 with a scale a token, as docs/sidecar.md rounds them. Like
// coded pages, and unlike pages of keys and values, they look alike on every backend.
//
//   page   [4] units
//   unit   codes [width][16 tokens], int8 | scales [16], f32
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/host_device.h"
#include "tensor/kv_layout.h"
#include "tensor/latent_layout.h"

namespace cga {

struct IndexLayout {
  std::int32_t width = 0;  // channels of a key, a multiple of 4

  CGA_HOST_DEVICE std::int64_t unit_bytes() const {
    return std::int64_t{unit_tokens} * (width + static_cast<std::int64_t>(sizeof(float)));
  }
  CGA_HOST_DEVICE std::int64_t page_bytes() const { return page_units * unit_bytes(); }
};

/// One unit's keys.
struct IndexUnit {
  std::int8_t* codes;  // [width, 16]
  float* scales;       // [16]
};

/// @param ids  pages of a sequence in order
CGA_HOST_DEVICE inline IndexUnit index_unit(std::byte* base, const IndexLayout& layout,
                                            const std::int32_t* ids, std::int32_t unit) {
  std::byte* at =
      base + ids[unit / page_units] * layout.page_bytes() + unit % page_units * layout.unit_bytes();
  return {reinterpret_cast<std::int8_t*>(at),
          reinterpret_cast<float*>(at + std::int64_t{layout.width} * unit_tokens)};
}

}  // namespace cga

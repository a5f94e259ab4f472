// Which attention each layer uses, and which layers belong together. Compact Grouped Attention will add its
// anchors and who serves whom here, and nothing above has to change.
#pragma once

#include <cstdint>
#include <vector>

namespace cga {

/// Layers [first, last) of the model.
struct LayerRange {
  std::int32_t first = 0, last = 0;

  std::int32_t size() const { return last - first; }
};

enum class AttentionKind : std::uint8_t { dense };

struct LayerPlan {
  std::vector<AttentionKind> attention;  // [n_layers]
  std::vector<LayerRange> groups;        // layers that share a latent, in order; dense: one group

  static LayerPlan dense(std::int32_t n_layers) {
    return {std::vector<AttentionKind>(static_cast<std::size_t>(n_layers), AttentionKind::dense),
            {{0, n_layers}}};
  }
};

}  // namespace cga

// Which attention each layer uses. Dense everywhere today; Compact Grouped Attention adds its layer groups,
// anchors and who serves whom here, and nothing above has to change.
#pragma once

#include <cstdint>
#include <vector>

namespace cga {

enum class AttentionKind : std::uint8_t { dense };

struct LayerPlan {
  std::vector<AttentionKind> attention;  // [n_layers]

  static LayerPlan dense(std::int32_t n_layers) {
    return {std::vector<AttentionKind>(static_cast<std::size_t>(n_layers), AttentionKind::dense)};
  }
};

}  // namespace cga

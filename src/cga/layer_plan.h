// Which layers belong together.
#pragma once

#include <cstdint>
#include <vector>

namespace cga {

/// Layers [first, last) of the model.
struct LayerRange {
  std::int32_t first = 0, last = 0;

  std::int32_t size() const { return last - first; }
};

struct LayerPlan {
  std::vector<LayerRange> groups;  // layers that share a latent, in order; dense: one group

  static LayerPlan dense(std::int32_t n_layers) { return {{{0, n_layers}}}; }
};

}  // namespace cga

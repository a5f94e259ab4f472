// How many bits each component of a latent gets at a rate: reverse water-filling over the stored variances,
// so that one sidecar serves every rate. docs/sidecar.md ("Bits") is the rule; a pure function, the same for
// every backend, because the result decides how coded pages are read.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/latent_layout.h"
#include "tensor/latent_view.h"

namespace cga {

/// @param variance  [m], m a multiple of 64
/// @param n         channels
/// @param w         components whose basis is stored in 16 bits
/// @param rate      bits a channel, >= 0
/// @return          [m / 64]: the width of each block of components, 0, 1, 2, 4 or 8
std::vector<std::uint8_t> plan_bits(std::span<const float> variance, std::int64_t n, std::int64_t w,
                                    double rate);

/// The layout of a group's coded pages at a rate.
LatentLayout plan_layout(const LatentView& group, double rate);

}  // namespace cga

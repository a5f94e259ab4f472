// Choices of tiles, splits and grids, made on the host by pure functions.
//
// Bits must not depend on company: what a plan fixes about the order of sums, the stretches of columns, is a
// function of cols and the weights' type. The rest follows the number of tokens and the device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/host_device.h"

namespace cga::cuda {

inline constexpr int max_decode_tokens = 32;     // a launch
inline constexpr int group_tokens = 16;          // a CTA
inline constexpr int max_decode_targets = 4;     // a launch
inline constexpr std::int64_t max_cols = 65536;  // of which kernels hold a sum for each 256 in shared memory

/// Floats of a token's partial sums in shared memory: 16 rows of weights, and 4 so that tokens differ in
/// bank.
inline constexpr int partial_stride = 20;

/// How a row's tiles are summed: stretches of equal length, the last perhaps shorter, each in order, then the
/// stretches in order.
struct Stretches {
  int n = 0;
  int tiles = 0;  // of a stretch, a multiple of step
};

/// @param step  tiles that are multiplied together
/// @param most  stretches
Stretches decode_stretches(std::int64_t cols, int step, int most = 16);

/// Activations of up to 16 tokens as the decode kernels read them: [planes][tokens][stride_bytes] of 16-bit
/// floats, then [cols padded / group][slots] sums of groups, then [slots] scales, f32.
struct ActivationLayout {
  std::int64_t padded_cols = 0;  // a multiple of 64
  int planes = 1;
  int n_tokens = 0;
  int slots = 0;  // tokens rounded up to 8 or 16; 1 of a single one converted where it is multiplied
  std::int64_t stride_bytes = 0;  // of a token; 64 more than a multiple of 128 so that tokens differ in bank
  std::int64_t sums_offset = 0, scales_offset = 0, bytes = 0;

  CGA_HOST_DEVICE std::int64_t plane_bytes() const { return n_tokens * stride_bytes; }
};

/// @param slots  1, 8 or 16, no fewer than tokens
ActivationLayout activation_layout(std::int64_t cols, int n_tokens, int planes, int group, int slots);

/// What of a device plans depend on.
struct DeviceLimits {
  int multiprocessors = 0;
  int shared_per_multiprocessor = 0, shared_per_cta = 0;  // bytes
};

/// Slots for tiles on their way from memory to a warp: as many as fit 5.5 KiB, or half of that where shared
/// memory is short.
constexpr int ring_slots(int slot_bytes, bool deep) {
  const int n = (deep ? 5632 : 2816) / slot_bytes, least = deep ? 2 : 1;
  return n > least ? n : least;
}

struct DecodePlan {
  int warps = 0;                         // at least 4
  int stretches = 0, stretch_tiles = 0;  // as in Stretches
  int warp_stretches = 0;                // of a warp: 1 or 2
  int token_tiles = 0;                   // of 8 tokens that a CTA multiplies at once: 1 or 2
  int token_groups = 0;                  // of 16 tokens, which different CTAs multiply
  int grid = 0;                          // CTAs for each group of tokens
  bool fused =
      false;  // a single token, which each CTA converts into its shared memory; else a kernel before does
  bool deep = false;             // rings have the greater of two sizes
  ActivationLayout activations;  // of one group
  std::size_t partials_offset = 0, ring_offset = 0, shared_bytes = 0;
  int partials_floats = 0;  // of one of two buffers of partial sums; 0 if there is room for but one
  int ring_bytes = 0;       // of a warp
  int carveout_percent = 0;
};

/// The tile of the weights.
struct DecodeTile {
  int planes = 1, group = 32;  // of activations
  int step = 1;                // tiles that are multiplied together
  int bytes = 0;
};

DecodePlan plan_decode(std::int64_t cols, std::int64_t n_tasks, int n_tokens, const DecodeTile& tile,
                       const DeviceLimits& device);

inline constexpr std::int64_t max_prefill_tokens = 2048;  // at a time

/// Prefill in pieces that fit a workspace of bounded size.
struct PrefillPlan {
  std::int64_t tokens = 0;       // a multiple of 128, at most 2048, at a time
  std::int64_t rows = 0;         // of weights at a time
  std::int64_t padded_cols = 0;  // a multiple of 64
  std::size_t scales_offset = 0, weights_offset = 0, products_offset[2] = {}, gemm_offset = 0, bytes = 0;
};

inline constexpr std::size_t gemm_workspace_bytes = 4 << 20;

PrefillPlan plan_prefill(std::int64_t n_tokens, std::int64_t cols, std::int64_t rows);

}  // namespace cga::cuda

// Choices for products in integers (integer_decode.cuh), made on the host by pure functions. As in plan.h,
// the order of sums is a function of cols and the weights' type alone.
#pragma once

#include "kernels/cuda/matmul/plan.h"

namespace cga::cuda {

inline constexpr int quad_tokens = 4;     // which one mma multiplies: its 8 columns are 2 bytes of each
inline constexpr int max_team_warps = 8;  // as many as stretches
inline constexpr int max_cta_warps = 16;
inline constexpr int segment_cols = 256;         // which a warp quantises together
inline constexpr int ring_depths[] = {8, 6, 4};  // slots of a ring; the last where a kernel quantises before

/// Quantised activations of up to 16 tokens. A token's 64 columns of a tile are 128 bytes, in the order in
/// which lanes hold operands of mma; then a scale for each 32 of them, and their sum if weights have minima.
struct IntegerLayout {
  int col_tiles = 0;
  int slots = 0;    // tokens that have room
  int factors = 0;  // floats of a tile and token: 2, or 4 with sums
  std::int64_t factors_offset = 0, scales_offset = 0, bytes = 0;
};
inline constexpr int slot_tile_bytes = 128;  // [8 lanes: (byte, t)][2 halves][8 columns]

IntegerLayout integer_layout(std::int64_t cols, int slots, bool has_min);

struct IntegerPlan {
  int stretches = 0, stretch_tiles = 0;  // as in Stretches, at most 8
  int warp_stretches = 0;                // of a warp
  int team_warps = 0;                    // which share a task
  int teams = 0;                         // of a CTA, which share its activations; at most 8
  int token_tiles = 0;                   // of 4 tokens that a warp multiplies at once: 1, 2 or 4
  int token_groups = 0;                  // of 16 tokens, which different CTAs multiply
  int grid = 0;                          // CTAs for each group of tokens
  bool quantises = false;     // CTAs quantise up to 4 tokens into shared memory; else a kernel before does
  IntegerLayout activations;  // of one group
  int n_partials = 0;         // that a task's results are added up from
  int partials_floats = 0;    // of one of a team's two buffers
  int ring_slots = 0, ring_bytes = 0;  // of a warp: one of ring_depths
  std::size_t squares_offset = 0;      // sums of squares of segments: [tokens, segments]
  std::size_t team_scales_offset = 0;  // tokens' scales: [teams, 4]
  std::size_t partials_offset = 0, ring_offset = 0, shared_bytes = 0;
  int carveout_percent = 0;

  CGA_HOST_DEVICE int warps() const { return teams * team_warps; }
};

/// The tile of the weights.
struct IntegerTileShape {
  int step = 1;  // tiles that are multiplied together
  int bytes = 0;
  bool has_min = false;
};

IntegerPlan plan_integers(std::int64_t cols, std::int64_t n_tasks, int n_tokens, const IntegerTileShape& tile,
                          const DeviceLimits& device);

}  // namespace cga::cuda

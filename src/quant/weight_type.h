// A weight type: how a row of a matrix is cut into blocks, and how a block is read and written.
// Block layouts follow the GGUF specification (ggml's block_* structures), little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace cga {

/// How a quantised block reads as small integers, for kernels that multiply them by integer activations:
/// w = scale * (q - zero) - min, with one scale and one min for every `group` consecutive values.
struct IntegerForm {
  int bits = 0;          ///< q is in [0, 2^bits); 0: the type has no integer form (F32, F16, BF16)
  int group = 0;         ///< values that share a scale: 16 or 32
  int zero = 0;          ///< constant subtracted from q: 8 for Q4_0, 16 for Q5_0, 32 for Q6_K, 128 for Q8_0
  bool has_min = false;  ///< Q4_1, Q5_1, Q4_K, Q5_K
};

struct WeightType {
  std::string_view name;      ///< as GGUF tools print it: "Q4_1"
  std::uint32_t gguf_id = 0;  ///< ggml_type
  int block_values = 1;       ///< values a block; rows are whole blocks
  int block_bytes = 0;
  IntegerForm integer;

  /// Reads `n_blocks` consecutive blocks into n_blocks * block_values floats.
  void (*decode)(const std::byte* blocks, std::int64_t n_blocks, float* out) = nullptr;
  /// Writes n_blocks * block_values floats as blocks, rounding to the nearest codes.
  void (*encode)(const float* values, std::int64_t n_blocks, std::byte* out) = nullptr;
  /// The integer form of one block: q[block_values], scale[block_values/group], min[block_values/group]
  /// (min is zero without has_min). Null when integer.bits is 0.
  void (*codes)(const std::byte* block, std::uint8_t* q, float* scale, float* min) = nullptr;

  std::int64_t row_bytes(std::int64_t n_values) const { return n_values / block_values * block_bytes; }
};

/// All weight types, from the folder listing.
std::vector<const WeightType*> weight_types();

/// @return nullptr for a type this engine cannot read
const WeightType* find_weight_type(std::uint32_t gguf_id);
const WeightType* find_weight_type(std::string_view name);

}  // namespace cga

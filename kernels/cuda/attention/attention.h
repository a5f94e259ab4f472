// append and attend of the CUDA backend (docs/kernels/cuda-attention.md). What changes from step to step
// (lengths, pages) is read from device memory and grids come from upper bounds, so that a captured graph can
// be replayed with new metadata. Nothing here allocates, copies or synchronises.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"
#include "tensor/kv_layout.h"

namespace cga::cuda {

/// SequenceRows as kernels read it. Sequence's page ids are pages[first_page], pages[first_page + 1], …
/// A sequence of no tokens is skipped.
struct SequenceMeta {
  std::int32_t first_row, n_tokens, position, first_page;
};

struct AppendArgs {
  float* q = nullptr;              // [n_rows, n_heads, head_dim], f32, rotated in place; or null
  float* k = nullptr;              // [n_rows, n_kv_heads, head_dim], f32, rotated in place
  const float* v = nullptr;        // [n_rows, n_kv_heads, head_dim], f32
  const float* cos_sin = nullptr;  // [n_rows, 2, head_dim/2], f32, or null: no rotation
  RopePairs pairs = RopePairs::halves;
  std::int32_t n_heads = 0;
  std::byte* base = nullptr;  // [n_pages, layout.page_bytes()], bytes, 16-byte aligned
  KvLayout layout;
  const SequenceMeta* sequences = nullptr;  // [n_sequences]
  const std::int32_t* pages = nullptr;      // page ids
  std::int32_t n_sequences = 0, n_rows = 0;
};

/// Rotates q and k if there is cos_sin, and writes k and v to their pages, rounded as Ops::append says: bit
/// for bit what the reference keeps. Rows of no sequence are left alone. One launch.
void rope_append(const AppendArgs& args, cudaStream_t stream);

/// Pages of i8, as resident_unit.cuh arranges them.
struct Residents {
  const std::byte* base = nullptr;    // 16-byte aligned
  const std::byte* scales = nullptr;  // 16-byte aligned
  KvLayout layout;                    // of i8
};

struct AttendArgs {
  const float* q = nullptr;  // [n_rows, n_heads, head_dim], f32, rotated
  float* out = nullptr;      // [n_rows, n_heads, head_dim], f32
  std::int32_t n_heads = 0;
  float scale = 1.0f;               // 1 / sqrt(head_dim)
  const std::byte* base = nullptr;  // as in AppendArgs
  KvLayout layout;
  const SequenceMeta* sequences = nullptr;  // [n_sequences]
  const std::int32_t* pages = nullptr;      // page ids, or a choice of units
  bool units = false;                       // pages holds units as SequenceRows::units does
  std::int32_t n_sequences = 0, n_rows = 0;
  std::int32_t max_tokens = 0;     // >= position + n_tokens of every sequence; an excess costs idle CTAs only
  std::byte* workspace = nullptr;  // [attend_workspace_bytes()], 16-byte aligned
  Residents residents;             // of units that name them; beside bf16 pages
};

/// Every sequence has exactly one row (or none).
void attend_decode(const AttendArgs& args, cudaStream_t stream);

/// Any number of rows a sequence. Needs no workspace.
void attend_prefill(const AttendArgs& args, cudaStream_t stream);

struct MassArgs {
  const float* q = nullptr;  // [n_rows, n_heads, head_dim], f32, rotated
  std::int32_t n_heads = 0;
  float scale = 1.0f;               // 1 / sqrt(head_dim)
  const std::byte* base = nullptr;  // of bf16 or f32
  KvLayout layout;
  const SequenceMeta* sequences = nullptr;  // [n_sequences]
  const std::int32_t* pages = nullptr;      // as in AttendArgs, and what follows
  bool units = false;
  Residents residents;
  std::int32_t n_sequences = 0, n_rows = 0;
  std::int32_t max_tokens = 0;  // no row reads more positions
  float2* sums = nullptr;       // [n_rows, n_heads]: scratch
  float* mass = nullptr;        // [n_rows, stride], f32
  std::int64_t stride = 0;
};

/// Adds to mass as Ops::attention_mass says, in an order that depends on the row alone.
void attention_mass(const MassArgs& args, cudaStream_t stream);

/// What attend_decode needs for up to max_rows sequences of up to max_tokens tokens. Must be filled with
/// zeros once, before the first call, and belongs to attend_decode from then on: its counters return to zero
/// by themselves. One workspace serves one stream at a time, and calls of one n_heads.
/// @param n_kv_heads  1 will do for any; the true number asks for less
std::size_t attend_workspace_bytes(std::int32_t n_heads, std::int32_t head_dim, std::int32_t max_rows,
                                   std::int32_t max_tokens, std::int32_t n_kv_heads = 1);

}  // namespace cga::cuda

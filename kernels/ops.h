// The op contract: every arithmetic step of the forward pass, with its shapes. The scalar backend
// (kernels/reference) is the oracle; kernels/cpu and kernels/cuda must agree with it within the
// tolerance given at each op. Activations are f32, row-major, in memory the backend allocated.
// Unless an op says so, outputs must not alias inputs. Parameters are trusted: the model layer checked them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>

#include "cga/shortlist.h"
#include "kernels/choice.h"
#include "tensor/index_layout.h"
#include "tensor/kv_layout.h"
#include "tensor/latent_layout.h"
#include "tensor/latent_view.h"
#include "tensor/weight_view.h"

namespace cga {

/// A weight matrix in the arrangement its backend multiplies fastest. Made by Ops::prepare, used only
/// with the Ops that made it.
class PreparedWeight {
 public:
  virtual ~PreparedWeight() = default;
  std::int64_t rows = 0, cols = 0;
  std::int64_t bytes = 0;        // what one multiplication by a single vector reads
  bool references_file = false;  // true: points into the WeightView's memory, which must stay mapped
};

/// One product of a matmul call: out = x · weightᵀ + bias.
struct MatmulTarget {
  const PreparedWeight* weight = nullptr;  // [rows, cols]
  const float* bias = nullptr;             // [rows], f32, or null
  float* out = nullptr;                    // [n_tokens, rows], f32
};

/// Rows that are normed before they are multiplied: rms_norm(x, weight, eps); x as it is without a weight.
struct NormedRows {
  const float* x = nullptr;       // [n_tokens, dim], f32
  const float* weight = nullptr;  // [dim], f32, or null
  float eps = 0.0f;
  float* h = nullptr;  // [n_tokens, dim], f32: room for the normed rows, maybe x; a backend need not use it
};

/// One sequence's share of a batch: n_tokens consecutive rows at consecutive positions.
struct SequenceRows {
  std::int32_t first_row = 0;  // row of its first token in the batch
  std::int32_t n_tokens = 0;
  std::int32_t position = 0;            // of its first token; also the tokens already in its pages
  std::span<const std::int32_t> pages;  // [>= ceil((position + n_tokens) / 64)], page ids

  /// If there are any, attend reads these instead of pages: a choice of units in any order, the rows' own
  /// tokens last, [>= ceil((position + n_tokens) / 16)]. Then `position` counts the tokens of the choice
  /// before the row's own, and all units but the last are whole. A unit is 4 * (page id) + (unit in page), or
  /// a resident_unit() of that, which the rows' own are not. Ranks 4i to 4i + 3 are read from one memory;
  /// where there are fewer units to read, no_unit fills up the four: its 16 positions are counted and hold
  /// nothing. Pages of bf16 and f32 only; beside residents, of bf16.
  std::span<const std::int32_t> units = {};
};

/// In SequenceRows::units: the unit of that id in the layer's residents. Its own inverse.
inline constexpr std::int32_t resident_unit(std::int32_t id) {
  return -1 - id;
}
inline constexpr std::int32_t no_unit = std::numeric_limits<std::int32_t>::min();

/// The pages of one layer: page id p starts at base + p * layout.page_bytes(); its scales, if i8 has any, at
/// scales + p * layout.page_scale_bytes().
struct LayerPages {
  std::byte* base = nullptr;  // [n_pages, layout.page_bytes()], bytes
  KvLayout layout;
  std::byte* scales = nullptr;  // [n_pages, layout.page_scale_bytes()], bytes
};

struct AppendParams {
  const float* k = nullptr;  // [n_tokens, n_kv_heads, head_dim], f32, rotated
  const float* v = nullptr;  // [n_tokens, n_kv_heads, head_dim], f32
  LayerPages pages;
  std::span<const SequenceRows> sequences;
};

struct AttendParams {
  const float* q = nullptr;  // [n_tokens, n_heads, head_dim], f32, rotated
  float* out = nullptr;      // [n_tokens, n_heads, head_dim], f32
  std::int32_t n_heads =
      0;               // a multiple of n_kv_heads; query head h reads KV head h / (n_heads / n_kv_heads)
  float scale = 1.0f;  // 1 / sqrt(head_dim)
  LayerPages pages;    // must hold the batch's own tokens already (append first)
  std::span<const SequenceRows> sequences;
  LayerPages residents = {};  // i8; for choices that name units of them
};

/// Which elements of a head RoPE rotates together: GGUF's llama files store q and k for (2i, 2i+1),
/// qwen2 and most others rotate (i, i + head_dim/2).
enum class RopePairs : std::uint8_t { interleaved, halves };

/// A layer group's transform in the arrangement its backend multiplies fastest, for any allocation of bits.
/// Made by Ops::prepare_latent, used only with the Ops that made it; may point into the LatentView's memory.
class PreparedLatent {
 public:
  virtual ~PreparedLatent() = default;
  std::int64_t n = 0, m = 0;  // channels, components
};

struct EncodeParams {
  const PreparedLatent* latent = nullptr;  // [n, m]
  const LatentLayout* layout = nullptr;    // [m / 64] widths
  const float* x = nullptr;                // [pages.size(), 64, n], f32, keys in their page's frame
  std::byte* coded = nullptr;              // [any, layout->page_bytes()], bytes: a pool of coded pages
  std::span<const std::int32_t> pages;     // where each page of x goes in it
};

struct ChannelRange {
  std::int64_t first = 0, count = 0;
};

struct DecodeParams {
  const PreparedLatent* latent = nullptr;  // [n, m]
  const LatentLayout* layout = nullptr;    // [m / 64] widths
  const std::byte* coded = nullptr;        // [any, 4, layout->unit_bytes()], bytes: a pool of coded pages
  std::span<const std::int32_t> units;     // 4 * (page in the pool) + (unit in page)
  std::span<const ChannelRange> channels;  // which of the n to reconstruct, in the order of out
  float* out = nullptr;                    // [units.size(), 16, all counts], f32
};

/// Pages of exact keys and values of some layers, and the frame in which their keys are coded: rotated by the
/// offset in the page only, in half-split order, without the rotation's magnitude. A row of x holds
/// n = 2 * layers.size() * n_kv_heads * head_dim channels: all layers' keys, then all layers' values. Pages
/// are bf16 or f32, and what units are scattered to may be i8: the block types are caches of their own, never
/// a stage of the archive.
struct PageFrame {
  std::span<const LayerPages> layers;   // in order, of one layout
  RopePairs pairs = RopePairs::halves;  // of keys in the pages
  float magnitude = 1.0f;               // of the model's rotation
};

struct GatherPagesParams {
  PageFrame frame;
  std::span<const std::int32_t> pages;  // ids of full pages, the same in all layers
  const float* cos_sin = nullptr;       // [pages.size(), 2, head_dim/2], f32: first positions, magnitude 1
  float* x = nullptr;                   // [pages.size(), 64, n], f32
};

struct ScatterUnitsParams {
  PageFrame frame;
  std::span<const std::int32_t> units;  // where each goes: 4 * (page id) + (unit in page)
  const float* cos_sin = nullptr;       // [units.size(), 2, head_dim/2], f32: of the page each was coded in
  const float* x = nullptr;             // [units.size(), 16, n], f32
};

/// Pages of the index: page p starts at base + p * layout.page_bytes() (tensor/index_layout.h).
struct IndexPages {
  std::byte* base = nullptr;  // [n_pages, layout.page_bytes()], bytes
  IndexLayout layout;
};

struct IndexKeysParams {
  const float* k = nullptr;        // [n_tokens, width], f32, not rotated yet
  const float* cos_sin = nullptr;  // [n_tokens, 2, width/4], f32
  IndexPages pages;
  std::span<const SequenceRows> sequences;  // pages: ids of index pages
};

struct ScoreUnitsParams {
  const float* q = nullptr;        // [n_tokens, n_heads, width], f32, not rotated yet
  const float* weights = nullptr;  // [n_tokens, n_heads], f32
  const float* cos_sin = nullptr;  // [n_tokens, 2, width/4], f32
  std::int32_t n_heads = 0;
  IndexPages pages;
  std::span<const ScoredRow> rows;
  float* scores = nullptr;  // [rows.size(), stride], f32: unit u of a row at column u; others are not written
  std::int64_t stride = 0;  // >= every last
};

struct AttentionMassParams {
  const float* q = nullptr;  // [n_tokens, n_heads, head_dim], f32, rotated
  std::int32_t n_heads = 0;  // as in AttendParams
  float scale = 1.0f;
  LayerPages pages;  // bf16 or f32
  std::span<const SequenceRows> sequences;
  float* mass = nullptr;      // [n_tokens, stride], f32
  std::int64_t stride = 0;    // >= units of the longest sequence
  LayerPages residents = {};  // as in AttendParams
};

struct ShortlistParams {
  const float* logits = nullptr;  // [n_rows, n_vocab], f32
  std::int64_t n_rows = 0, n_vocab = 0;
  std::int32_t k = 0;                 // 1 to n_vocab, and no more than longest_shortlist allows
  Candidate* likeliest = nullptr;     // [n_rows, k], in host memory
  LogitSummary* summaries = nullptr;  // [n_rows], in host memory
};

/// Whole pages of one layer from one place to another.
struct CopyPagesParams {
  LayerPages from, to;  // of one layout, in memory of one backend
  std::span<const std::int32_t> from_ids;
  std::span<const std::int32_t> to_ids;  // as many; no page is in both
};

struct RopeAppendParams {
  float* q = nullptr;  // [n_tokens, n_heads, head_dim], f32: rotated in place
  float* k = nullptr;  // [n_tokens, n_kv_heads, head_dim], f32: rotated in place; what append.k is
  const float* cos_sin = nullptr;  // [n_tokens, 2, head_dim/2], f32
  RopePairs pairs = RopePairs::halves;
  std::int64_t n_tokens = 0;
  std::int32_t n_heads = 0;
  AppendParams append;
};

/// The largest calls to come, for planning what ops need beside their arguments.
struct WorkShape {
  std::int64_t n_tokens = 0;  // rows of a step
  std::int32_t n_sequences = 0, n_ctx = 0, n_heads = 0, head_dim = 0;
  std::span<const std::pair<std::int64_t, std::int64_t>> matrices;  // rows, cols
  std::int64_t n_channels = 0;  // of the largest layer group that is coded; 0: none is
};

class Ops {
 public:
  virtual ~Ops() = default;

  /// Device memory that the backend's own scratch takes.
  virtual std::int64_t work_bytes(const WorkShape&) const { return 0; }
  /// Takes it now rather than when it is first needed.
  virtual void reserve_work(const WorkShape&) {}
  virtual bool takes_untouched_memory() const { return false; }  ///< else it costs nothing before it is used

  /// Arranges a matrix for matmul. F32, F16 and BF16 stay in place; block types may be repacked.
  virtual std::unique_ptr<PreparedWeight> prepare(const WeightView& weight) = 0;

  /// What prepare(weight)->bytes will be, from the weight's type and shape alone, for planning.
  virtual std::int64_t prepared_bytes(const WeightView& weight) const = 0;

  /// Arranges a table for embed: on the CPU the view itself.
  virtual std::unique_ptr<PreparedWeight> prepare_table(const WeightView& table) = 0;

  /// Memory that prepare_table(table) takes; none if it stays in the file.
  virtual std::int64_t prepared_table_bytes(const WeightView&) const { return 0; }

  /// out[t] = table[ids[t]], dequantised.  table: [n_vocab, dim], of prepare_table; out: [ids.size(), dim],
  /// f32. Exact.
  virtual void embed(float* out, const PreparedWeight& table, std::span<const std::int32_t> ids) = 0;

  /// out[t] = x[t] / sqrt(mean(x[t]²) + eps) * weight.  x, out: [n_tokens, dim], f32; may alias.
  /// Tolerance 1e-5 relative. (Zhang & Sennrich, arXiv:1910.07467)
  virtual void rms_norm(float* out, const float* x, const float* weight, float eps, std::int64_t n_tokens,
                        std::int64_t dim) = 0;

  /// Several products with one input (q, k and v; gate and up).  x: [n_tokens, cols], f32.
  /// All weights have the same cols. The reference multiplies in f32 and adds in f64; others may quantise x
  /// to int16 with a scale for each 32 columns, and keep the weights' scales in f16: relative error (L2, a
  /// row) at most 1e-3, and 1e-5 for float weights.
  virtual void matmul(std::span<const MatmulTarget> targets, const float* x, std::int64_t n_tokens) = 0;

  /// Angles for rope: cos and sin of positions[t] * inverse_frequency[i], times `magnitude`.
  /// cos_sin: [n_tokens, 2, head_dim/2], f32: cosines, then sines.
  virtual void rope_angles(float* cos_sin, std::span<const std::int32_t> positions,
                           std::span<const float> inverse_frequency, float magnitude) = 0;

  /// Rotates in place.  x: [n_tokens, n_heads, head_dim], f32. (Su et al., arXiv:2104.09864)
  virtual void rope(float* x, const float* cos_sin, RopePairs pairs, std::int64_t n_tokens,
                    std::int32_t n_heads, std::int32_t head_dim) = 0;

  /// Writes the batch's keys and values into their pages, rounded as the layout's element type says
  /// (KvElement); what a vector becomes depends on that vector only. A q4 page holds each head's vector after
  /// hadamard(). Block types take finite values; what becomes of others, only their own token shows.
  virtual void append(const AppendParams& params) = 0;

  /// Causal softmax attention of every row over its sequence's pages, positions 0 to its own. One pass
  /// (online softmax); the order of summation depends on positions only (of a choice of units: on ranks in
  /// it), not on threads or neighbours. Over q4 pages the query is transformed by hadamard() before, the
  /// result after. Tolerance against the reference on the same pages: 2e-5 relative (L2, a head).
  virtual void attend(const AttendParams& params) = 0;

  /// Arranges a transform for coding (docs/sidecar.md).
  virtual std::unique_ptr<PreparedLatent> prepare_latent(const LatentView& view) = 0;

  /// What a prepared transform of this shape takes in memory, the view's own included if it is used; for
  /// planning. Only n, m and w are read.
  virtual std::int64_t prepared_latent_bytes(const LatentView& view) const = 0;

  /// Codes whole pages of tokens. A token's codes depend on nothing but its row and the transform. Against
  /// the reference: at least 99.9 % of codes equal, the rest one step apart.
  virtual void encode_pages(const EncodeParams& params) = 0;

  /// Reconstructs some channels of coded units. A value depends on nothing but its unit's codes and the
  /// transform. Tolerance 2e-2 relative (L2, a token, of its distance to the mean): components whose basis is
  /// int8 may be rounded to int8 before they are multiplied, which takes 2e-3 to 5e-3 where a block's
  /// components are of about one size. Residents, in int8 too, add as much, and the codes themselves are off
  /// by 0.05 to 0.3.
  virtual void decode_units(const DecodeParams& params) = 0;

  /// Reads pages of exact keys and values as rows for encode_pages. Tolerance 1e-6 relative (L2, a token).
  virtual void gather_pages(const GatherPagesParams& params) = 0;

  /// Writes decoded units into pages that attend reads: keys rotated forward, then rounded to the layout's
  /// element type as by append. Tolerance 1e-6 relative before rounding; codes of i8 may differ by one step
  /// where rounding is close.
  virtual void scatter_units(const ScatterUnitsParams& params) = 0;

  /// Copies pages as they are.
  virtual void copy_pages(const CopyPagesParams& params) = 0;

  /// Rotates keys of the index, rounds each to int8 and writes them into their pages (docs/sidecar.md, "The
  /// index"). Codes may differ from the reference's by one step where rounding is close.
  virtual void index_keys(const IndexKeysParams& params) = 0;

  /// Rotates and rounds queries of the index and scores units: the best of 16 tokens. A score depends on
  /// nothing but its row, its keys and the number of heads. Tolerance 1e-5 relative, given the same codes.
  virtual void score_units(const ScoreUnitsParams& params) = 0;

  /// The `count` units of each row with the highest scores, the bonus included, ties to the lower unit, in
  /// ascending order. There when it returns, for the host to decide by. Exact.
  virtual void top_units(const TopUnitsParams& params) = 0;

  /// Adds to mass[t, u] what the heads of row t attend to unit u with: their softmax weights over positions 0
  /// to its own, summed over tokens and heads; of choices, by rank. Slow. Tolerance 1e-4 relative.
  virtual void attention_mass(const AttentionMassParams& params) = 0;

  /// out = silu(gate) * up.  all: [n], f32; out may alias either. (Shazeer, arXiv:2002.05202)
  virtual void swiglu(float* out, const float* gate, const float* up, std::int64_t n) = 0;

  /// x += y.  x, y: [n], f32.
  virtual void add(float* x, const float* y, std::int64_t n) = 0;

  /// out[i] = x[rows[i]].  x: [n_tokens, dim], f32; out: [rows.size(), dim], f32; rows ascending. Exact.
  virtual void gather(float* out, const float* x, std::span<const std::int32_t> rows, std::int64_t dim) = 0;

  /// The longest shortlist that may be taken of rows of n_vocab logits; 0: sample from whole rows instead,
  /// because reading them is as fast, or because there is no shortlist of rows as long as these.
  virtual std::int32_t longest_shortlist(std::int64_t /*n_vocab*/) const { return 0; }

  /// The k likeliest tokens of each row and a summary of all (cga/shortlist.h), to host memory; they are
  /// there when it returns. Not part of a step. A row's results do not depend on other rows, nor its summary
  /// on k. Exact; sums within 5e-6 relative, added in an order that n_vocab alone decides.
  virtual void shortlist(const ShortlistParams& params) = 0;

  // Steps of a layer that a backend may run as one kernel. Each is by default what it is made of, and its
  // tolerance is theirs.

  /// matmul of normed rows.
  virtual void norm_matmul(std::span<const MatmulTarget> targets, const NormedRows& rows,
                           std::int64_t n_tokens) {
    if (rows.weight == nullptr) return matmul(targets, rows.x, n_tokens);
    rms_norm(rows.h, rows.x, rows.weight, rows.eps, n_tokens, targets[0].weight->cols);
    matmul(targets, rows.h, n_tokens);
  }

  /// swiglu of two products of normed rows.  gate.out = silu(gate) * up: [n_tokens, rows], f32. up.out is
  /// room as large, which a backend need not use.
  virtual void norm_swiglu(const MatmulTarget& gate, const MatmulTarget& up, const NormedRows& rows,
                           std::int64_t n_tokens) {
    const MatmulTarget targets[] = {gate, up};
    norm_matmul(targets, rows, n_tokens);
    swiglu(gate.out, gate.out, up.out, n_tokens * gate.weight->rows);
  }

  /// x += y · weightᵀ.  x: [n_tokens, weight.rows], f32; y: [n_tokens, weight.cols], f32.
  /// room: as large as x, which a backend need not use.
  virtual void matmul_add(float* x, const PreparedWeight& weight, const float* y, std::int64_t n_tokens,
                          float* room) {
    const MatmulTarget target{&weight, nullptr, room};
    matmul({&target, 1}, y, n_tokens);
    add(x, room, n_tokens * weight.rows);
  }

  /// rope of queries and keys, then append.
  virtual void rope_append(const RopeAppendParams& params) {
    const AppendParams& a = params.append;
    rope(params.q, params.cos_sin, params.pairs, params.n_tokens, params.n_heads, a.pages.layout.head_dim);
    rope(params.k, params.cos_sin, params.pairs, params.n_tokens, a.pages.layout.n_kv_heads,
         a.pages.layout.head_dim);
    append(a);
  }
};

}  // namespace cga

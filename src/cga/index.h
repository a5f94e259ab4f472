// The index of every sequence: small keys of all tokens at every anchor, and the scores by which a query
// chooses units of the archive. The arithmetic is in docs/sidecar.md, "The index".
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "cache/page_pool.h"
#include "cga/archive.h"
#include "cga/compact_plan.h"
#include "cga/sidecar.h"
#include "kernels/ops.h"

namespace cga {

class Index {
 public:
  /// @param sidecar  has an index; stays mapped
  /// @param n_pages  of all sequences together; an id stands for the same tokens at every anchor
  Index(Backend& backend, const Sidecar& sidecar, const KeyFrame& frame, std::int32_t n_pages);

  PagePool& pages() { return pool_; }
  const IndexLayout& layout() const { return layout_; }
  std::int64_t page_bytes() const;    // one page, all anchors
  std::int64_t matrix_bytes() const;  // of the anchors, as the backend keeps them

 private:
  friend class IndexStep;
  struct Anchor {
    LayerRange layers;
    std::unique_ptr<PreparedWeight> query;              // [heads * width, dim]
    std::unique_ptr<PreparedWeight> weight;             // [heads, dim]
    std::unique_ptr<Buffer> bias;                       // [heads]
    std::unique_ptr<PreparedWeight> need;               // [1, dim]; or none
    std::unique_ptr<Buffer> need_bias;                  // [1]
    std::vector<std::unique_ptr<PreparedWeight>> keys;  // [n_key_layers] of [width, dim]
    std::unique_ptr<Buffer> memory;                     // [n_pages, layout.page_bytes()]
  };
  /// Memory of one step, grown as batches do.
  struct Scratch {
    std::unique_ptr<Buffer> cos_sin;  // [n_tokens, 2, width/4]
    std::unique_ptr<Buffer> key;      // [n_tokens, width]: the sum over layers so far
    std::unique_ptr<Buffer> part;     // [n_tokens, width]: one layer's
    std::unique_ptr<Buffer> queries;  // [n_tokens, heads, width]
    std::unique_ptr<Buffer> weights;  // [n_tokens, heads]
    std::unique_ptr<Buffer> need;     // [n_tokens]
    std::unique_ptr<Buffer> scores;   // [rows, units]
  };

  Backend& backend_;
  IndexLayout layout_;
  std::int32_t n_heads_;
  std::span<const float> frequencies_;  // [width/4]: the slowest of the model's
  std::vector<Anchor> anchors_;         // a selection group each, in order
  PagePool pool_;
  Scratch scratch_;
};

/// The index beside one batch on its way through the layers.
class IndexStep {
 public:
  /// @param rows  of the batch; pages: of the index
  IndexStep(Index& index, std::span<const SequenceRows> rows);

  /// What a layer's attention is about to read becomes part of the keys of its anchor. Layers come in order.
  /// @param input  [n_tokens, dim]
  void observe(std::int32_t layer, const NormedRows& input);

  /// Chooses the best units for each of some rows.
  /// @param group   a selection group; input is what its anchor's attention is about to read, [n_tokens, dim]
  /// @param rows    their units [first, last) may be chosen, more than budget.mean
  /// @param bonus   of units that a row's predecessor chose
  /// @param units   [rows.size(), budget.most], ascending
  /// @param counts  [rows.size()]: how many of a row
  void choose(std::int32_t group, const NormedRows& input, std::span<const ScoredRow> rows,
              const UnitBudget& budget, float bonus, std::int32_t* units, std::int32_t* counts);

 private:
  Index& index_;
  std::vector<SequenceRows> rows_;
  std::int64_t n_tokens_ = 0;
};

}  // namespace cga

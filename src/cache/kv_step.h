// What attention reads and writes while one batch goes through the layers. How keys and values are kept
// (all exact, in a prompt's scratch, or mostly coded) and what a query reads of them is decided by whoever
// makes the step; attention and the forward pass only ask for a layer.
#pragma once

#include <cstdint>
#include <span>

#include "cache/kv_cache.h"
#include "kernels/ops.h"

namespace cga {

/// Matrices whose product stands beside a projection: up(down(x)).
struct LowRank {
  const PreparedWeight* down = nullptr;  // [rank, cols]
  const PreparedWeight* up = nullptr;    // [rows, rank]
};

struct RowRange {
  std::int32_t first = 0, count = 0;  // of the batch
};

/// Rows whose queries, and what attention gives back, go through low-rank matrices, too.
struct AdaptedRows {
  std::span<const RowRange> rows;  // none: no matrices are there
  LowRank query, output;
  float* narrow = nullptr;  // [most rows of a range, rank], f32: room
};

struct LayerKv {
  LayerPages pages;
  std::span<const SequenceRows> appended;  // the batch's rows, by pages: where its keys and values go
  std::span<const SequenceRows> read;      // the batch's rows, by pages or by units: what each attends to
  LayerPages residents = {};               // of units that `read` names
  AdaptedRows adapted = {};
  float* mass = nullptr;  // [n_tokens, mass_stride]: if there, gets Ops::attention_mass
  std::int64_t mass_stride = 0;
};

class KvStep {
 public:
  virtual ~KvStep() = default;
  /// Layers are asked for in order, each before its attention. What it returns is valid until the next call.
  /// @param input  [n_tokens, dim]: what the layer's queries, keys and values are made from
  virtual LayerKv layer(std::int32_t index, const NormedRows& input) = 0;
};

/// Every token exact, under the same page ids in every layer.
class DenseStep final : public KvStep {
 public:
  DenseStep(const KvCache& cache, std::span<const SequenceRows> sequences)
      : cache_(cache), sequences_(sequences) {}

  LayerKv layer(std::int32_t index, const NormedRows&) override {
    return {cache_.layer(index), sequences_, sequences_};
  }

 private:
  const KvCache& cache_;
  std::span<const SequenceRows> sequences_;
};

}  // namespace cga

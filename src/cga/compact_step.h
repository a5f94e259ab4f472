// A batch of rows that read their archived past from its codes, as decoding does. Residents are read where
// they are; what is not resident is decoded for each layer anew, into pages that all layers share.
#pragma once

#include <span>
#include <vector>

#include "cache/kv_step.h"
#include "cga/compact_cache.h"

namespace cga {

class CompactStep final : public KvStep {
 public:
  /// @param sequences  of the rows, in their order; must have advanced over them
  CompactStep(CompactCache& cache, std::span<const CompactSequence* const> sequences,
              std::span<const SequenceRows> rows);

  LayerKv layer(std::int32_t index) override;

 private:
  struct Missing {
    std::size_t row = 0;      // index into rows_
    std::int32_t number = 0;  // of the page in its sequence
    std::int32_t coded = 0;
  };

  CompactCache& cache_;
  std::vector<SequenceRows> rows_;
  std::vector<Missing> missing_;                  // the i-th is decoded into shared page i
  std::vector<std::vector<std::int32_t>> pages_;  // of each row, with the missing ones filled in
  std::vector<OpenedUnit> units_;
};

}  // namespace cga

// Low-rank matrices beside attention's projections, for rows that leave something of the archive unread: the
// model adapted to reading a part (docs/sidecar.md, "Adapters").
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "cache/kv_step.h"
#include "cga/sidecar.h"

namespace cga {

class Adapters {
 public:
  /// @param sidecar  has adapters; stays mapped
  /// @param pairs    how queries lie: a sidecar's are in half-split order
  Adapters(Backend& backend, const Sidecar& sidecar, RopePairs pairs);

  std::int64_t matrix_bytes() const;  // as the backend keeps them

  /// @param rows  of the batch; outlives the result
  AdaptedRows of(std::int32_t layer, std::span<const RowRange> rows);

 private:
  struct Layer {
    std::vector<std::uint16_t> q_up_in_pairs;  // q_up in interleaved order, where the model's queries are
    std::unique_ptr<PreparedWeight> q_down, q_up, o_down, o_up;
  };

  Backend& backend_;
  std::int64_t rank_ = 0;
  std::vector<Layer> layers_;
  std::unique_ptr<Buffer> narrow_;  // [rows, rank_], grown as batches do
};

}  // namespace cga

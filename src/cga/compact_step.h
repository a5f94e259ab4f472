// A batch of rows as decoding sees it: each reads the first unit, the window, and of the archive what it
// chooses. The first layer of a selection group chooses for all of them; what is chosen and not resident is
// decoded once for the group, and what finds no room among the residents for each layer anew.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cache/kv_step.h"
#include "cga/compact_cache.h"

namespace cga {

class CompactStep final : public KvStep {
 public:
  /// @param sequences  of the rows, in their order; must have advanced over them
  CompactStep(CompactCache& cache, std::span<CompactSequence* const> sequences,
              std::span<const SequenceRows> rows);

  LayerKv layer(std::int32_t index, const NormedRows& input) override;

  /// For Selection::oracle: while it observes, every row reads the whole archive, and what the layers of a
  /// selection group attend to decides what the rows choose when the same layers run again.
  void observe(bool on) { observes_ = on; }

 private:
  /// Rows of one sequence that read the same units of the archive.
  struct Reading {
    std::size_t sequence = 0;
    std::int32_t first_row = 0, n_tokens = 0, position = 0;
    std::size_t first = 0, n_units = 0;  // in chosen_
  };
  /// A unit id that differs from layer to layer: that of shared unit `shared`.
  struct Patch {
    std::size_t at = 0;  // in ids_
    std::int32_t shared = 0;
  };

  /// Whether a sequence's rows choose: there is more than they may read.
  bool chooses(std::size_t sequence) const;
  std::int32_t n_eligible(std::size_t sequence) const;
  void begin_group(std::size_t group, const NormedRows& input);
  void read_everything(std::size_t sequence, std::int32_t n_eligible);
  void choose(std::size_t sequence, std::size_t group, std::int32_t n_eligible);
  void score(std::size_t group, const NormedRows& input);
  void choose_by_mass(std::int32_t budget);
  /// Finds or makes a place for every chosen unit of a sequence.
  void resolve(std::size_t sequence, std::size_t group);
  void list_ids(std::size_t sequence);
  /// Ids from `first` on become a multiple of four.
  void fill_up(std::size_t first);
  static std::int32_t unit_of_slot(const CompactSequence& sequence, std::int32_t slot);
  LayerKv layer_kv(std::int32_t index);

  CompactCache& cache_;
  std::vector<CompactSequence*> sequences_;
  std::vector<SequenceRows> rows_;  // by pages
  std::vector<RowRange> adapted_;   // rows that leave something unread
  std::vector<bool> has_chosen_;    // [sequences_.size()]: whether an earlier choice may serve the first rows
  std::optional<IndexStep> index_;
  bool observes_ = false;
  std::unique_ptr<Buffer> mass_;  // [n_tokens, mass_stride_]: of the selection group that was observed
  std::int64_t mass_stride_ = 0, n_tokens_ = 0;

  // Of the current selection group:
  std::vector<Reading> readings_;
  std::vector<std::int32_t> chosen_;    // unit numbers, a reading's behind those of the one before
  std::vector<ScoredRow> scored_;       // rows that choose, and
  std::vector<std::size_t> scored_in_;  // the reading of each
  std::vector<bool> follows_;           // whether a scored row's predecessor is the one before it
  std::vector<SequenceRows> read_;      // rows as attention reads them
  std::vector<std::int32_t> ids_;       // unit ids, a reading after the other
  std::vector<std::size_t> ids_at_;     // [read_.size()]: where each row's ids begin
  std::vector<Patch> patches_;
  std::vector<OpenedUnit> fresh_;       // to be decoded for the group
  std::vector<OpenedUnit> transient_;   // to be decoded for each layer; decoded: number of a shared unit
  std::vector<std::int32_t> place_of_;  // [units]: slot of a unit; -1 - j: shared unit j
  // Arrays that are used again.
  std::vector<std::int32_t> union_, slots_, picked_, n_picked_;
  std::vector<std::size_t> fresh_at_;
};

}  // namespace cga

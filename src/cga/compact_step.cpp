#include "cga/compact_step.h"

namespace cga {

CompactStep::CompactStep(CompactCache& cache, std::span<const CompactSequence* const> sequences,
                         std::span<const SequenceRows> rows)
    : cache_(cache), rows_(rows.begin(), rows.end()), pages_(rows.size()) {
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    const CompactSequence& sequence = *sequences[row];
    rows_[row].pages = sequence.pages();
    for (std::int32_t number = 0; number < sequence.n_archived(); ++number) {
      const auto index = static_cast<std::size_t>(number);
      if (sequence.pages()[index] != CompactSequence::absent) continue;
      missing_.push_back({row, number, sequence.coded()[index]});
    }
    if (missing_.empty() || missing_.back().row != row) continue;
    pages_[row].assign(sequence.pages().begin(), sequence.pages().end());
    rows_[row].pages = pages_[row];
  }
}

LayerKv CompactStep::layer(std::int32_t index) {
  const LayerPages pages = cache_.memory().layer(index);
  if (missing_.empty()) return {pages, rows_};
  units_.clear();
  for (std::size_t i = 0; i < missing_.size(); ++i) {
    const Missing& page = missing_[i];
    const std::int32_t id = cache_.memory().shared_id(index, static_cast<std::int32_t>(i));
    pages_[page.row][static_cast<std::size_t>(page.number)] = id;
    add_coded_units(units_, page.number, page.coded, id);
  }
  Archive& archive = cache_.archive();
  archive.open(archive.group_of(index), {index, index + 1}, {&pages, 1}, units_);
  return {pages, rows_};
}

}  // namespace cga

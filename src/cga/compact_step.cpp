#include "cga/compact_step.h"

#include <algorithm>
#include <numeric>

namespace cga {
namespace {

std::vector<SequenceRows> with_pages(std::span<CompactSequence* const> sequences,
                                     std::span<const SequenceRows> rows,
                                     std::span<const std::int32_t> (CompactSequence::*pages)() const) {
  std::vector<SequenceRows> result(rows.begin(), rows.end());
  for (std::size_t i = 0; i < result.size(); ++i) result[i].pages = (sequences[i]->*pages)();
  return result;
}

/// Units by which rank and number in the sequence differ where a row reads everything: the first unit is the
/// only one of its four.
constexpr std::int64_t rank_shift = page_units - 1;

}  // namespace

CompactStep::CompactStep(CompactCache& cache, std::span<CompactSequence* const> sequences,
                         std::span<const SequenceRows> rows)
    : cache_(cache),
      sequences_(sequences.begin(), sequences.end()),
      rows_(with_pages(sequences, rows, &CompactSequence::pages)) {
  for (const SequenceRows& row : rows_) {
    n_tokens_ = std::max<std::int64_t>(n_tokens_, row.first_row + row.n_tokens);
    const std::int64_t units = (row.position + row.n_tokens) / unit_tokens + 1;
    mass_stride_ = std::max(mass_stride_, units + page_units);
  }
  for (std::size_t s = 0; s < rows_.size() && cache.adapters_; ++s) {
    if (chooses(s)) adapted_.push_back({rows_[s].first_row, rows_[s].n_tokens});
  }
  for (CompactSequence* sequence : sequences_) {
    has_chosen_.push_back(sequence->has_chosen_);
    sequence->has_chosen_ = true;
  }
  if (cache.index() != nullptr) {
    index_.emplace(*cache.index(), with_pages(sequences, rows, &CompactSequence::index_pages));
  }
}

std::int32_t CompactStep::n_eligible(std::size_t sequence) const {
  return std::max(0, page_units * sequences_[sequence]->n_archived() - 1);
}

bool CompactStep::chooses(std::size_t sequence) const {
  const CompactSettings& settings = cache_.settings();
  return settings.selection != Selection::all && n_eligible(sequence) > settings.budget_units();
}

LayerKv CompactStep::layer(std::int32_t index, const NormedRows& input) {
  if (index_) index_->observe(index, input);
  const auto groups = cache_.select_groups();
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].layers.first == index) begin_group(g, input);
  }
  return layer_kv(index);
}

void CompactStep::begin_group(std::size_t group, const NormedRows& input) {
  readings_.clear(), chosen_.clear(), scored_.clear(), scored_in_.clear(), follows_.clear();
  read_.clear(), ids_.clear(), ids_at_.clear(), patches_.clear(), fresh_.clear(), transient_.clear();
  if (observes_) {
    const std::int64_t floats = n_tokens_ * mass_stride_;
    mass_ = cache_.backend().allocate(static_cast<std::size_t>(floats) * sizeof(float), "attention mass");
  }
  for (std::size_t s = 0; s < rows_.size(); ++s) {
    chooses(s) && !observes_ ? choose(s, group, n_eligible(s)) : read_everything(s, n_eligible(s));
  }
  if (!scored_.empty()) score(group, input);
  for (std::size_t s = 0; s < rows_.size(); ++s) {
    if (sequences_[s]->n_archived() == 0) {
      read_.push_back(rows_[s]);
      ids_at_.push_back(ids_.size());
      continue;
    }
    resolve(s, group);
    list_ids(s);
  }
  const SelectRange& range = cache_.select_groups()[group];
  cache_.counts_.decoded_bytes += cache_.archive().unit_bytes(range.archive_group) *
                                  static_cast<std::int64_t>(fresh_.size() + transient_.size());
  if (!fresh_.empty()) {
    cache_.archive().open(range.archive_group, range.layers, cache_.residents(range.layers), fresh_);
  }
}

void CompactStep::read_everything(std::size_t sequence, std::int32_t n_eligible) {
  if (n_eligible == 0) return;
  const SequenceRows& rows = rows_[sequence];
  readings_.push_back({sequence, rows.first_row, rows.n_tokens, rows.position, chosen_.size(),
                       static_cast<std::size_t>(n_eligible)});
  chosen_.resize(chosen_.size() + static_cast<std::size_t>(n_eligible));
  std::iota(chosen_.end() - n_eligible, chosen_.end(), 1);
}

void CompactStep::choose(std::size_t sequence, std::size_t group, std::int32_t n_eligible) {
  CompactSequence& own = *sequences_[sequence];
  const SequenceRows& rows = rows_[sequence];
  const CompactSettings& settings = cache_.settings();
  const auto most = static_cast<std::size_t>(settings.unit_budget().most);
  own.chosen_.resize(cache_.select_groups().size());
  const std::size_t first_scored = scored_.size();
  for (std::int32_t t = 0; t < rows.n_tokens; ++t) {
    const std::int32_t position = rows.position + t;
    const bool first = t == 0 && !has_chosen_[sequence];
    const bool anew = position % settings.refresh == 0 || first;
    if (!anew && t > 0) {
      ++readings_.back().n_tokens;
      continue;
    }
    readings_.push_back({sequence, rows.first_row + t, 1, position, chosen_.size(), most});
    if (!anew) {
      readings_.back().n_units = own.chosen_[group].size();
      chosen_.insert(chosen_.end(), own.chosen_[group].begin(), own.chosen_[group].end());
      continue;
    }
    const bool afresh = position % settings.choice_period() == 0 || first;
    follows_.push_back(!afresh && scored_.size() > first_scored);
    scored_.push_back({rows.first_row + t, 1, 1 + n_eligible, own.index_pages()});
    if (!afresh && !follows_.back()) {
      scored_.back().before = own.chosen_[group].data();
      scored_.back().n_before = static_cast<std::int32_t>(own.chosen_[group].size());
    }
    scored_in_.push_back(readings_.size() - 1);
    chosen_.resize(chosen_.size() + most);
  }
}

void CompactStep::score(std::size_t group, const NormedRows& input) {
  const UnitBudget budget = cache_.settings().unit_budget();
  const auto most = static_cast<std::size_t>(budget.most);
  picked_.resize(scored_.size() * most);
  n_picked_.resize(scored_.size());
  for (std::size_t i = 0; i < scored_.size(); ++i) {
    if (follows_[i]) scored_[i].before = picked_.data() + (i - 1) * most;
  }
  if (index_) {
    for (const ScoredRow& row : scored_) {
      cache_.counts_.index_bytes += (row.last - row.first) * cache_.index()->layout().unit_bytes();
    }
    index_->choose(static_cast<std::int32_t>(group), input, scored_, budget, cache_.settings().inertia,
                   picked_.data(), n_picked_.data());
  } else {
    choose_by_mass(budget.most);
    std::ranges::fill(n_picked_, budget.most);
  }
  for (std::size_t i = 0; i < scored_.size(); ++i) {
    Reading& reading = readings_[scored_in_[i]];
    reading.n_units = static_cast<std::size_t>(n_picked_[i]);
    std::copy_n(picked_.begin() + static_cast<std::ptrdiff_t>(i * most), n_picked_[i],
                chosen_.begin() + static_cast<std::ptrdiff_t>(reading.first));
  }
  // What a sequence chose last, later rows of it may use again.
  for (const Reading& reading : readings_) {
    const auto first = chosen_.begin() + static_cast<std::ptrdiff_t>(reading.first);
    auto& kept = sequences_[reading.sequence]->chosen_;
    if (group < kept.size()) kept[group].assign(first, first + static_cast<std::ptrdiff_t>(reading.n_units));
  }
}

void CompactStep::choose_by_mass(std::int32_t budget) {
  std::vector<std::int32_t> rows;
  for (const ScoredRow& row : scored_) rows.push_back(row.row);
  const auto bytes = rows.size() * static_cast<std::size_t>(mass_stride_) * sizeof(float);
  const auto scores = cache_.backend().allocate(bytes, "attention mass");
  Ops& ops = cache_.backend().ops();
  ops.gather(scores->as<float>(), mass_->as<float>(), rows, mass_stride_);
  ops.top_units({.scores = scores->as<float>() + rank_shift,
                 .stride = mass_stride_,
                 .rows = scored_,
                 .count = budget,
                 .units = picked_.data()});
}

void CompactStep::resolve(std::size_t sequence, std::size_t group) {
  CompactSequence& own = *sequences_[sequence];
  ReuseCounts& counts = cache_.counts_;
  union_.clear();
  for (const Reading& reading : readings_) {
    if (reading.sequence != sequence) continue;
    const auto first = chosen_.begin() + static_cast<std::ptrdiff_t>(reading.first);
    union_.insert(union_.end(), first, first + static_cast<std::ptrdiff_t>(reading.n_units));
    counts.choices += reading.n_tokens;
    counts.chosen += reading.n_tokens * static_cast<std::int64_t>(reading.n_units);
    counts.eligible += reading.n_tokens * std::int64_t{page_units * own.n_archived() - 1};
  }
  std::sort(union_.begin(), union_.end());
  union_.erase(std::unique(union_.begin(), union_.end()), union_.end());

  own.residents_.resize(cache_.select_groups().size());
  slots_.resize(union_.size());
  own.residents_[group].resolve(union_, cache_.plan().resident_units(), slots_, fresh_at_);
  const std::int32_t used = own.residents_[group].n_used();
  while (resident_page_units * static_cast<std::int32_t>(own.resident_pages_.size()) < used) {
    own.resident_pages_.push_back(cache_.pool_.take());
  }
  counts.needed += static_cast<std::int64_t>(union_.size());
  counts.decoded += static_cast<std::int64_t>(union_.size());  // but for residents:
  for (const std::int32_t slot : slots_) counts.decoded -= slot != Residents::absent ? 1 : 0;
  counts.decoded += static_cast<std::int64_t>(fresh_at_.size());

  const auto coded = [&](std::int32_t unit) {
    return page_units * own.coded_[static_cast<std::size_t>(unit / page_units)] + unit % page_units;
  };
  place_of_.resize(std::max(place_of_.size(), static_cast<std::size_t>(page_units * own.n_archived())));
  for (const std::size_t i : fresh_at_) {
    fresh_.push_back({union_[i], coded(union_[i]), unit_of_slot(own, slots_[i])});
  }
  for (std::size_t i = 0; i < union_.size(); ++i) {
    std::int32_t& place = place_of_[static_cast<std::size_t>(union_[i])];
    place = slots_[i];
    if (slots_[i] != Residents::absent) continue;
    const auto shared = static_cast<std::int32_t>(transient_.size());
    transient_.push_back({union_[i], coded(union_[i]), shared});
    place = -1 - shared;
  }
}

std::int32_t CompactStep::unit_of_slot(const CompactSequence& sequence, std::int32_t slot) {
  const auto at = static_cast<std::size_t>(slot / resident_page_units);
  return resident_page_units * sequence.resident_pages_[at] + slot % resident_page_units;
}

void CompactStep::fill_up(std::size_t first) {
  while ((ids_.size() - first) % page_units != 0) ids_.push_back(no_unit);
}

void CompactStep::list_ids(std::size_t sequence) {
  const CompactSequence& own = *sequences_[sequence];
  for (const Reading& reading : readings_) {
    if (reading.sequence != sequence) continue;
    const std::size_t first = ids_.size();
    ids_at_.push_back(first);
    ids_.push_back(page_units * own.pages_[0]);
    fill_up(first);
    for (std::size_t i = reading.first; i < reading.first + reading.n_units; ++i) {
      const std::int32_t place = place_of_[static_cast<std::size_t>(chosen_[i])];
      if (place < 0) {
        patches_.push_back({ids_.size(), -1 - place});
        ids_.push_back(0);
      } else {
        ids_.push_back(resident_unit(unit_of_slot(own, place)));
      }
    }
    fill_up(first);
    const auto before = static_cast<std::int32_t>(ids_.size() - first) * unit_tokens;
    const std::int32_t last_unit = (reading.position + reading.n_tokens - 1) / unit_tokens;
    for (std::int32_t unit = page_units * own.n_archived(); unit <= last_unit; ++unit) {
      ids_.push_back(page_units * own.pages_[static_cast<std::size_t>(unit / page_units)] +
                     unit % page_units);
    }
    const std::int32_t rank = before + reading.position - page_tokens * own.n_archived();
    read_.push_back({reading.first_row, reading.n_tokens, rank, {}});
  }
}

LayerKv CompactStep::layer_kv(std::int32_t index) {
  const LayerPages residents = cache_.memory().residents(index);
  const auto shared_unit = [&](std::int32_t j) {
    return resident_page_units * cache_.memory().shared_id(index, j / resident_page_units) +
           j % resident_page_units;
  };
  if (!transient_.empty()) {
    std::vector<OpenedUnit> units = transient_;
    for (OpenedUnit& unit : units) unit.decoded = shared_unit(unit.decoded);
    cache_.archive().open(cache_.archive().group_of(index), {index, index + 1}, {&residents, 1}, units);
    for (const Patch& patch : patches_) ids_[patch.at] = resident_unit(shared_unit(patch.shared));
  }
  for (std::size_t i = 0; i < read_.size(); ++i) {
    if (!read_[i].pages.empty()) continue;
    const std::size_t end = i + 1 < read_.size() ? ids_at_[i + 1] : ids_.size();
    read_[i].units = std::span(ids_).subspan(ids_at_[i], end - ids_at_[i]);
  }
  LayerKv kv{cache_.memory().layer(index), rows_, read_, residents};
  if (!adapted_.empty() && !observes_) kv.adapted = cache_.adapters_->of(index, adapted_);
  if (observes_) {
    kv.mass = mass_->as<float>();
    kv.mass_stride = mass_stride_;
  }
  return kv;
}

}  // namespace cga

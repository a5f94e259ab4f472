#include "cga/compact_cache.h"

#include <algorithm>

#include "cga/prefill_scratch.h"

namespace cga {

void add_coded_units(std::vector<OpenedUnit>& units, std::int32_t number, std::int32_t coded,
                     std::int32_t decoded) {
  const std::int32_t first = number == 0 ? 1 : 0;
  for (std::int32_t unit = first; unit < page_units; ++unit) units.push_back({number, unit, coded, decoded});
}

CompactCache::CompactCache(Backend& backend, const KvLayout& layout, const Sidecar& sidecar,
                           const CompactSettings& settings, const KeyFrame& frame, std::int32_t n_ctx,
                           std::int32_t n_sequences)
    : settings_(settings),
      plan_(settings, n_ctx),
      n_layers_(sidecar.metadata().base.n_layers),
      memory_(backend, layout, n_layers_, plan_.held_pages() * n_sequences,
              plan_.transient_pages() * n_sequences, "keys and values"),
      pool_(plan_.held_pages() * n_sequences),
      archive_(backend, sidecar, settings.bits, frame, plan_.archived_pages() * n_sequences) {}

std::vector<LayerPages> CompactCache::layers(std::int32_t group) const {
  const LayerRange range = archive_.layers(group);
  std::vector<LayerPages> pages;
  for (std::int32_t i = range.first; i < range.last; ++i) pages.push_back(memory_.layer(i));
  return pages;
}

void CompactCache::advance(CompactSequence& sequence, std::int32_t n_tokens) {
  seal(sequence, rule().first_exact_page(sequence.n_tokens_));
  fill_residents(sequence);
  sequence.n_tokens_ += n_tokens;
  while (static_cast<std::int32_t>(sequence.pages_.size()) < div_up(sequence.n_tokens_, page_tokens)) {
    sequence.pages_.push_back(pool_.take());
  }
}

void CompactCache::seal(CompactSequence& sequence, std::int32_t first_exact) {
  std::vector<SealedPage> sealed;
  for (std::int32_t number = sequence.n_archived(); number < first_exact; ++number) {
    sequence.coded_.push_back(archive_.pages().take());
    sealed.push_back({number, sequence.pages_[static_cast<std::size_t>(number)], sequence.coded_.back()});
  }
  if (sealed.empty()) return;
  for (std::int32_t g = 0; g < archive_.n_groups(); ++g) archive_.seal(g, layers(g), sealed);

  std::vector<OpenedUnit> staying;
  for (const SealedPage& page : sealed) {
    const bool stays = page.number == 0 || sequence.n_residents_ < plan_.resident_pages();
    if (stays) {
      add_coded_units(staying, page.number, page.coded, page.exact);
      sequence.n_residents_ += page.number > 0 ? 1 : 0;
    } else {
      drop_page(sequence, static_cast<std::size_t>(page.number));
    }
  }
  open(staying);
}

void CompactCache::fill_residents(CompactSequence& sequence) {
  // Every step comes here; only the first behind a prompt finds something to do.
  const std::int32_t wanted = std::min(plan_.resident_pages(), sequence.n_archived() - 1);
  std::vector<OpenedUnit> units;
  for (std::int32_t number = 1; sequence.n_residents_ < wanted; ++number) {
    const auto index = static_cast<std::size_t>(number);
    if (sequence.pages_[index] != CompactSequence::absent) continue;
    sequence.pages_[index] = pool_.take();
    ++sequence.n_residents_;
    add_coded_units(units, number, sequence.coded_[index], sequence.pages_[index]);
  }
  open(units);
}

void CompactCache::open(std::span<const OpenedUnit> units) {
  if (units.empty()) return;
  for (std::int32_t g = 0; g < archive_.n_groups(); ++g) {
    archive_.open(g, archive_.layers(g), layers(g), units);
  }
}

void CompactCache::begin_prompt(CompactSequence& sequence, std::int32_t n_tokens) {
  const std::int32_t n_pages = div_up(n_tokens, page_tokens);
  const std::int32_t first_exact = rule().first_exact_page(n_tokens);
  for (std::int32_t number = 0; number < n_pages; ++number) {
    const bool archived = number < first_exact;
    if (archived) sequence.coded_.push_back(archive_.pages().take());
    sequence.pages_.push_back(archived && number > 0 ? CompactSequence::absent : pool_.take());
  }
  sequence.n_tokens_ = n_tokens;
}

void CompactCache::store_group(CompactSequence& sequence, std::int32_t group, const PrefillScratch& scratch) {
  std::vector<SealedPage> sealed;
  for (std::int32_t number = 0; number < sequence.n_archived(); ++number) {
    sealed.push_back({number, number, sequence.coded_[static_cast<std::size_t>(number)]});
  }
  archive_.seal(group, scratch.layers(), sealed);

  std::vector<std::int32_t> from, to;
  for (std::size_t number = 0; number < sequence.pages_.size(); ++number) {
    if (sequence.pages_[number] == CompactSequence::absent) continue;
    from.push_back(static_cast<std::int32_t>(number));
    to.push_back(sequence.pages_[number]);
  }
  const std::vector<LayerPages> kept = layers(group);
  for (std::size_t i = 0; i < kept.size(); ++i) {
    archive_.ops().copy_pages({.from = scratch.layers()[i], .to = kept[i], .from_ids = from, .to_ids = to});
  }
  if (sealed.empty()) return;
  std::vector<OpenedUnit> first_page;
  add_coded_units(first_page, 0, sequence.coded_[0], sequence.pages_[0]);
  archive_.open(group, archive_.layers(group), kept, first_page);
}

bool CompactCache::truncate(CompactSequence& sequence, std::int32_t n_tokens) {
  if (sequence.n_archived() > rule().first_exact_page(n_tokens)) return false;
  const auto n_pages = static_cast<std::size_t>(div_up(n_tokens, page_tokens));
  while (sequence.pages_.size() > n_pages) {
    pool_.give_back(sequence.pages_.back());
    sequence.pages_.pop_back();
  }
  sequence.n_tokens_ = n_tokens;
  return true;
}

void CompactCache::drop_page(CompactSequence& sequence, std::size_t index) {
  pool_.give_back(sequence.pages_[index]);
  sequence.pages_[index] = CompactSequence::absent;
}

void CompactCache::release(CompactSequence& sequence) {
  for (const std::int32_t page : sequence.pages_) {
    if (page != CompactSequence::absent) pool_.give_back(page);
  }
  for (const std::int32_t page : sequence.coded_) archive_.pages().give_back(page);
  sequence = {};
}

}  // namespace cga

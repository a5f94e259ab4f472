#include "cga/compact_cache.h"

#include <algorithm>

#include "cga/prefill_scratch.h"

namespace cga {
namespace {

/// The sidecar's selection groups, or without an index its layer groups.
std::vector<SelectRange> select_ranges(const Sidecar& sidecar, const Archive& archive) {
  std::vector<SelectRange> ranges;
  for (const SelectGroup& group : sidecar.select_groups()) {
    ranges.push_back({group.layers, archive.group_of(group.layers.first)});
  }
  if (!ranges.empty()) return ranges;
  for (std::int32_t g = 0; g < archive.n_groups(); ++g) ranges.push_back({archive.layers(g), g});
  return ranges;
}

}  // namespace

CompactCache::CompactCache(Backend& backend, const KvLayout& layout, const Sidecar& sidecar,
                           const CompactSettings& settings, const KeyFrame& frame, std::int32_t n_ctx,
                           std::int32_t n_sequences)
    : backend_(backend),
      settings_(settings),
      plan_(settings, n_ctx),
      n_layers_(sidecar.metadata().base.n_layers),
      memory_(backend, layout, n_layers_, plan_.held_pages() * n_sequences,
              plan_.transient_pages() * n_sequences, "keys and values"),
      pool_(plan_.held_pages() * n_sequences),
      archive_(backend, sidecar, settings.bits, frame, plan_.archived_pages() * n_sequences),
      select_groups_(select_ranges(sidecar, archive_)) {
  if (settings.selection == Selection::index) {
    index_.emplace(backend, sidecar, frame, div_up(n_ctx, page_tokens) * n_sequences);
  }
}

std::vector<LayerPages> CompactCache::layers(LayerRange range) const {
  std::vector<LayerPages> pages;
  for (std::int32_t i = range.first; i < range.last; ++i) pages.push_back(memory_.layer(i));
  return pages;
}

void CompactCache::advance(CompactSequence& sequence, std::int32_t n_tokens) {
  seal(sequence, rule().first_exact_page(sequence.n_tokens_));
  sequence.n_tokens_ += n_tokens;
  grow(sequence);
}

void CompactCache::grow(CompactSequence& sequence) {
  const auto n_pages = static_cast<std::size_t>(div_up(sequence.n_tokens_, page_tokens));
  while (sequence.pages_.size() < n_pages) sequence.pages_.push_back(pool_.take());
  while (index_ && sequence.index_pages_.size() < n_pages) {
    sequence.index_pages_.push_back(index_->pages().take());
  }
}

void CompactCache::seal(CompactSequence& sequence, std::int32_t first_exact) {
  std::vector<SealedPage> sealed;
  for (std::int32_t number = sequence.n_archived(); number < first_exact; ++number) {
    sequence.coded_.push_back(archive_.pages().take());
    sealed.push_back({number, sequence.pages_[static_cast<std::size_t>(number)], sequence.coded_.back()});
  }
  if (sealed.empty()) return;
  for (std::int32_t g = 0; g < archive_.n_groups(); ++g) archive_.seal(g, layers(archive_.layers(g)), sealed);
  for (const SealedPage& page : sealed) {
    if (page.number == 0) continue;  // its first unit stays
    pool_.give_back(page.exact);
    sequence.pages_[static_cast<std::size_t>(page.number)] = CompactSequence::absent;
  }
}

void CompactCache::begin_prompt(CompactSequence& sequence, std::int32_t n_tokens) {
  const std::int32_t first_exact = rule().first_exact_page(n_tokens);
  for (std::int32_t number = 0; number < first_exact; ++number) {
    sequence.coded_.push_back(archive_.pages().take());
    sequence.pages_.push_back(number > 0 ? CompactSequence::absent : pool_.take());
  }
  sequence.n_tokens_ = n_tokens;
  grow(sequence);
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
  const std::vector<LayerPages> kept = layers(archive_.layers(group));
  for (std::size_t i = 0; i < kept.size(); ++i) {
    archive_.ops().copy_pages({.from = scratch.layers()[i], .to = kept[i], .from_ids = from, .to_ids = to});
  }
}

bool CompactCache::truncate(CompactSequence& sequence, std::int32_t n_tokens) {
  if (sequence.n_archived() > rule().first_exact_page(n_tokens)) return false;
  const auto n_pages = static_cast<std::size_t>(div_up(n_tokens, page_tokens));
  while (sequence.pages_.size() > n_pages) {
    pool_.give_back(sequence.pages_.back());
    sequence.pages_.pop_back();
  }
  while (sequence.index_pages_.size() > n_pages) {
    index_->pages().give_back(sequence.index_pages_.back());
    sequence.index_pages_.pop_back();
  }
  sequence.n_tokens_ = n_tokens;
  sequence.has_chosen_ = false;
  return true;
}

void CompactCache::release(CompactSequence& sequence) {
  for (const std::int32_t page : sequence.pages_) {
    if (page != CompactSequence::absent) pool_.give_back(page);
  }
  for (const std::int32_t page : sequence.resident_pages_) pool_.give_back(page);
  for (const std::int32_t page : sequence.coded_) archive_.pages().give_back(page);
  for (const std::int32_t page : sequence.index_pages_) index_->pages().give_back(page);
  sequence = {};
}

}  // namespace cga

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
      memory_(backend, layout, n_layers_, (plan_.held_pages() + plan_.kept_pages()) * n_sequences,
              plan_.transient_pages() * n_sequences, "keys and values", true),
      pool_((plan_.held_pages() + plan_.kept_pages()) * n_sequences),
      archive_(backend, sidecar, settings.bits, frame, plan_.archived_pages() * n_sequences),
      select_groups_(select_ranges(sidecar, archive_)) {
  if (settings.selection == Selection::index) {
    index_.emplace(backend, sidecar, frame, div_up(n_ctx, page_tokens) * n_sequences);
  }
  if (settings.selection != Selection::all && !sidecar.adapters().empty()) {
    adapters_.emplace(backend, sidecar, frame.pairs);
  }
}

std::vector<LayerPages> CompactCache::layers(LayerRange range) const {
  std::vector<LayerPages> pages;
  for (std::int32_t i = range.first; i < range.last; ++i) pages.push_back(memory_.layer(i));
  return pages;
}

std::vector<LayerPages> CompactCache::residents(LayerRange range) const {
  std::vector<LayerPages> pages;
  for (std::int32_t i = range.first; i < range.last; ++i) pages.push_back(memory_.residents(i));
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
  for (const SealedPage& page : sealed) drop_page(sequence, page.number);
}

void CompactCache::drop_page(CompactSequence& sequence, std::int32_t number) {
  if (number == 0) return;  // its first unit is exact for ever
  std::int32_t& page = sequence.pages_[static_cast<std::size_t>(number)];
  const bool marked =
      sequence.mark_ != CompactSequence::absent && number >= rule().first_exact_page(sequence.mark_);
  if (marked && static_cast<std::int32_t>(sequence.kept_.size()) < plan_.kept_pages()) {
    sequence.kept_.push_back({number, page});
  } else {
    if (marked) drop_mark(sequence);
    pool_.give_back(page);
  }
  page = CompactSequence::absent;
}

void CompactCache::mark(CompactSequence& sequence) {
  drop_mark(sequence);
  // Going back may read again from where choices began afresh, which is in the same page.
  sequence.mark_ = sequence.n_tokens_ - sequence.n_tokens_ % settings_.choice_period();
}

void CompactCache::drop_mark(CompactSequence& sequence) {
  for (const KeptPage& kept : sequence.kept_) pool_.give_back(kept.page);
  sequence.kept_.clear();
  sequence.mark_ = CompactSequence::absent;
}

IncomingText CompactCache::begin_text(CompactSequence& sequence, std::int32_t n_tokens) {
  IncomingText text;
  text.position = sequence.n_tokens_;
  seal(sequence, rule().first_exact_page(text.position));
  text.n_archived = sequence.n_archived();
  text.pages = sequence.pages_;
  sequence.n_tokens_ += n_tokens;
  const std::int32_t first_exact = rule().first_exact_page(sequence.n_tokens_);
  for (std::int32_t number = text.n_archived; number < first_exact; ++number) {
    sequence.coded_.push_back(archive_.pages().take());
    if (number < static_cast<std::int32_t>(text.pages.size())) {
      drop_page(sequence, number);
    } else {
      sequence.pages_.push_back(number > 0 ? CompactSequence::absent : pool_.take());
    }
  }
  grow(sequence);
  sequence.has_chosen_ = false;
  return text;
}

void CompactCache::load_group(const CompactSequence& sequence, const IncomingText& text, std::int32_t group,
                              const PrefillScratch& scratch) {
  std::vector<std::int32_t> from, to;
  for (std::size_t number = 0; number < text.pages.size(); ++number) {
    if (text.pages[number] == CompactSequence::absent) continue;
    from.push_back(text.pages[number]);
    to.push_back(static_cast<std::int32_t>(number));
  }
  const std::vector<LayerPages> own = layers(archive_.layers(group));
  for (std::size_t i = 0; i < own.size(); ++i) {
    archive_.ops().copy_pages({.from = own[i], .to = scratch.layers()[i], .from_ids = from, .to_ids = to});
  }
  std::vector<OpenedUnit> units;
  for (std::int32_t unit = 1; unit < page_units * text.n_archived; ++unit) {
    const std::int32_t page = sequence.coded_[static_cast<std::size_t>(unit / page_units)];
    units.push_back({unit, page_units * page + unit % page_units, unit});
  }
  archive_.open(group, archive_.layers(group), scratch.layers(), units);
}

void CompactCache::store_group(const CompactSequence& sequence, const IncomingText& text, std::int32_t group,
                               const PrefillScratch& scratch) {
  std::vector<SealedPage> sealed;
  for (std::int32_t number = text.n_archived; number < sequence.n_archived(); ++number) {
    sealed.push_back({number, number, sequence.coded_[static_cast<std::size_t>(number)]});
  }
  archive_.seal(group, scratch.layers(), sealed);

  const std::int32_t first = text.position / page_tokens;
  std::vector<std::int32_t> from, to;
  for (auto number = static_cast<std::size_t>(first); number < sequence.pages_.size(); ++number) {
    if (sequence.pages_[number] == CompactSequence::absent) continue;
    from.push_back(static_cast<std::int32_t>(number));
    to.push_back(sequence.pages_[number]);
  }
  for (const KeptPage& kept : sequence.kept_) {  // one may have been half full when the text began
    if (kept.number < first) continue;
    from.push_back(kept.number);
    to.push_back(kept.page);
  }
  const std::vector<LayerPages> kept = layers(archive_.layers(group));
  for (std::size_t i = 0; i < kept.size(); ++i) {
    archive_.ops().copy_pages({.from = scratch.layers()[i], .to = kept[i], .from_ids = from, .to_ids = to});
  }
}

bool CompactCache::restore(CompactSequence& sequence, std::int32_t first_exact, std::int32_t n_pages) {
  // Page 0 is always there; a page from n_pages on need not be.
  const std::int32_t n_missing = std::min(sequence.n_archived(), n_pages) - std::max(first_exact, 1);
  const auto is_wanted = [&](const KeptPage& kept) {
    return kept.number >= first_exact && kept.number < n_pages;
  };
  if (std::count_if(sequence.kept_.begin(), sequence.kept_.end(), is_wanted) < n_missing) return false;
  std::erase_if(sequence.kept_, [&](const KeptPage& kept) {
    if (!is_wanted(kept)) return false;
    sequence.pages_[static_cast<std::size_t>(kept.number)] = kept.page;
    return true;
  });
  while (sequence.n_archived() > first_exact) {
    archive_.pages().give_back(sequence.coded_.back());
    sequence.coded_.pop_back();
  }
  for (Residents& residents : sequence.residents_) residents.forget_from(page_units * first_exact);
  return true;
}

bool CompactCache::truncate(CompactSequence& sequence, std::int32_t n_tokens) {
  const std::int32_t first_exact = rule().first_exact_page(n_tokens);
  const std::int32_t pages_left = div_up(n_tokens, page_tokens);
  if (sequence.n_archived() > first_exact && !restore(sequence, first_exact, pages_left)) return false;
  if (n_tokens < sequence.mark_) drop_mark(sequence);
  const auto n_pages = static_cast<std::size_t>(pages_left);
  while (sequence.pages_.size() > n_pages) {
    if (sequence.pages_.back() != CompactSequence::absent) pool_.give_back(sequence.pages_.back());
    sequence.pages_.pop_back();
  }
  std::erase_if(sequence.kept_, [&](const KeptPage& kept) {
    if (kept.number < pages_left) return false;
    pool_.give_back(kept.page);
    return true;
  });
  while (sequence.index_pages_.size() > n_pages) {
    index_->pages().give_back(sequence.index_pages_.back());
    sequence.index_pages_.pop_back();
  }
  sequence.n_tokens_ = n_tokens;
  sequence.has_chosen_ = false;
  return true;
}

void CompactCache::release(CompactSequence& sequence) {
  drop_mark(sequence);
  for (const std::int32_t page : sequence.pages_) {
    if (page != CompactSequence::absent) pool_.give_back(page);
  }
  for (const std::int32_t page : sequence.resident_pages_) pool_.give_back(page);
  for (const std::int32_t page : sequence.coded_) archive_.pages().give_back(page);
  for (const std::int32_t page : sequence.index_pages_) index_->pages().give_back(page);
  sequence = {};
}

}  // namespace cga

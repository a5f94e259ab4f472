// Keys and values of all sequences under Compact Grouped Attention: exact pages of the beginning and the
// window, coded pages of everything, and as many decoded units as there is room for (the residents, which
// never change a result). docs/cga.md tells a page's life.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cache/page_memory.h"
#include "cache/page_pool.h"
#include "cga/adapters.h"
#include "cga/archive.h"
#include "cga/compact_plan.h"
#include "cga/index.h"
#include "cga/residents.h"

namespace cga {

class PrefillScratch;

/// An exact page that is coded already, and still there.
struct KeptPage {
  std::int32_t number = 0, page = 0;
};

/// Text on its way into a sequence, group by group.
struct IncomingText {
  std::int32_t position = 0;        // of its first token
  std::int32_t n_archived = 0;      // pages, before it
  std::vector<std::int32_t> pages;  // as CompactSequence::pages() before it
};

/// One sequence's hold on the cache.
class CompactSequence {
 public:
  static constexpr std::int32_t absent = -1;

  std::int32_t n_tokens() const { return n_tokens_; }
  std::int32_t n_archived() const { return static_cast<std::int32_t>(coded_.size()); }  // pages

  /// [pages of all tokens]: where a page's exact keys and values are; absent: only in the archive. Of page 0,
  /// once it is archived, only the first unit counts.
  std::span<const std::int32_t> pages() const { return pages_; }
  /// Going back is free from this position on; none: there is no mark.
  std::int32_t marked_from() const { return mark_ == absent ? n_tokens_ + 1 : mark_; }
  std::span<const std::int32_t> coded() const { return coded_; }  // [n_archived()], ids in the archive
  std::span<const std::int32_t> index_pages() const {
    return index_pages_;
  }  // [pages of all tokens]; or none

 private:
  friend class CompactCache;
  friend class CompactStep;
  std::int32_t n_tokens_ = 0;
  std::vector<std::int32_t> pages_, coded_, index_pages_;
  std::int32_t mark_ = absent;                // position; absent: none
  std::vector<KeptPage> kept_;                // exact pages of coded ones, for going back to the mark
  std::vector<std::int32_t> resident_pages_;  // slot s of any group is unit s % 8 of resident_pages_[s / 8]
  std::vector<Residents> residents_;          // a selection group each
  std::vector<std::vector<std::int32_t>> chosen_;  // by each selection group last, as unit numbers
  bool has_chosen_ = false;                        // since the last prompt or truncation
};

/// What choosing and reusing saved, summed over steps, sequences and selection groups.
struct ReuseCounts {
  std::int64_t choices = 0;        // queries and selection groups that chose, or reused a choice
  std::int64_t chosen = 0;         // units they read of the archive
  std::int64_t eligible = 0;       // units they could have read
  std::int64_t needed = 0;         // units that a step needed for a selection group
  std::int64_t decoded = 0;        // of these, how many were not resident
  std::int64_t decoded_bytes = 0;  // of codes that were read for that
  std::int64_t index_bytes = 0;    // of index keys that were read to choose
};

/// Layers that read the same units.
struct SelectRange {
  LayerRange layers;
  std::int32_t archive_group = 0;  // whose latent holds them
};

class CompactCache {
 public:
  /// @param n_ctx  tokens of each of n_sequences
  /// @throws Error (memory)
  CompactCache(Backend& backend, const KvLayout& layout, const Sidecar& sidecar,
               const CompactSettings& settings, const KeyFrame& frame, std::int32_t n_ctx,
               std::int32_t n_sequences);

  const ExactRule& rule() const { return settings_.rule; }
  const CompactSettings& settings() const { return settings_; }
  const CompactPlan& plan() const { return plan_; }
  const KvLayout& layout() const { return memory_.layout(); }
  Backend& backend() { return backend_; }
  Archive& archive() { return archive_; }
  Index* index() { return index_ ? &*index_ : nullptr; }  // null: nothing is chosen by one
  const Adapters* adapters() const { return adapters_ ? &*adapters_ : nullptr; }  // null: there are none
  std::span<const SelectRange> select_groups() const { return select_groups_; }
  const PageMemory& memory() const { return memory_; }
  const ReuseCounts& counts() const { return counts_; }
  void reset_counts() { counts_ = {}; }

  /// Makes room for n_tokens more, all of which share their first exact page (ExactRule::run_end): pages that
  /// leave the window are coded.
  void advance(CompactSequence& sequence, std::int32_t n_tokens);

  /// Makes room for n_tokens of text that reads itself exactly, and what came before whole. For every group,
  /// load_group() and store_group() must follow.
  IncomingText begin_text(CompactSequence& sequence, std::int32_t n_tokens);
  /// Puts what came before the text where the group's layers will read it: exact pages as they are, others
  /// decoded.
  void load_group(const CompactSequence& sequence, const IncomingText& text, std::int32_t group,
                  const PrefillScratch& scratch);
  /// Takes over a group's keys and values of the text: codes what is beyond the window and keeps the rest.
  void store_group(const CompactSequence& sequence, const IncomingText& text, std::int32_t group,
                   const PrefillScratch& scratch);

  /// From now on keeps what going back to here, or to anything later, takes: exact pages that are coded, as
  /// long as there are no more of them than CompactPlan::kept_pages().
  void mark(CompactSequence& sequence);

  /// Forgets everything from position n_tokens on.
  /// @return false, and nothing is forgotten: tokens that a query at n_tokens reads exactly are coded already
  bool truncate(CompactSequence& sequence, std::int32_t n_tokens);
  void release(CompactSequence& sequence);

 private:
  friend class CompactStep;
  std::vector<LayerPages> layers(LayerRange range) const;
  std::vector<LayerPages> residents(LayerRange range) const;
  /// Codes all pages before `first_exact`.
  void seal(CompactSequence& sequence, std::int32_t first_exact);
  /// Gives back an exact page that has been coded, unless it is kept for going back.
  void drop_page(CompactSequence& sequence, std::int32_t number);
  void drop_mark(CompactSequence& sequence);
  /// Makes pages exact again that were coded behind the mark.
  /// @return whether all in [first_exact, n_pages) are
  bool restore(CompactSequence& sequence, std::int32_t first_exact, std::int32_t n_pages);
  /// Takes pages until there is one for every 64 of the sequence's tokens.
  void grow(CompactSequence& sequence);

  Backend& backend_;
  CompactSettings settings_;
  CompactPlan plan_;
  std::int32_t n_layers_;
  PageMemory memory_;
  PagePool pool_;  // of memory_: exact pages and those of residents
  Archive archive_;
  std::optional<Index> index_;
  std::optional<Adapters> adapters_;  // none: rows that leave something unread are as others
  std::vector<SelectRange> select_groups_;
  ReuseCounts counts_;
};

}  // namespace cga

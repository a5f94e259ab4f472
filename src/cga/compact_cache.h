// Keys and values of all sequences under Compact Grouped Attention: exact pages of the beginning and the
// window, coded pages of all between, and as many of those decoded as there is room for (the residents, which
// never change a result). docs/cga.md tells a page's life.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache/page_memory.h"
#include "cache/page_pool.h"
#include "cga/archive.h"
#include "cga/compact_plan.h"

namespace cga {

class PrefillScratch;

/// One sequence's hold on the cache.
class CompactSequence {
 public:
  static constexpr std::int32_t absent = -1;

  std::int32_t n_tokens() const { return n_tokens_; }
  std::int32_t n_archived() const { return static_cast<std::int32_t>(coded_.size()); }  // pages

  /// [pages of all tokens]: where a page's keys and values are, exact or decoded; absent: only in the
  /// archive.
  std::span<const std::int32_t> pages() const { return pages_; }
  std::span<const std::int32_t> coded() const { return coded_; }  // [n_archived()], ids in the archive

 private:
  friend class CompactCache;
  std::int32_t n_tokens_ = 0;
  std::int32_t n_residents_ = 0;  // archived pages that are held decoded, page 0 aside
  std::vector<std::int32_t> pages_, coded_;
};

class CompactCache {
 public:
  /// @param n_ctx  tokens of each of n_sequences
  /// @throws Error (memory)
  CompactCache(Backend& backend, const KvLayout& layout, const Sidecar& sidecar,
               const CompactSettings& settings, const KeyFrame& frame, std::int32_t n_ctx,
               std::int32_t n_sequences);

  const ExactRule& rule() const { return settings_.rule; }
  const CompactPlan& plan() const { return plan_; }
  const KvLayout& layout() const { return memory_.layout(); }
  Archive& archive() { return archive_; }
  const PageMemory& memory() const { return memory_; }

  /// Makes room for n_tokens more, all of which share their first exact page (ExactRule::run_end): pages that
  /// leave the window are coded, and decoded again where they stand if they may be residents.
  void advance(CompactSequence& sequence, std::int32_t n_tokens);

  /// Makes room for a prompt of n_tokens in an empty sequence. store_group() must follow for every group.
  void begin_prompt(CompactSequence& sequence, std::int32_t n_tokens);
  /// Takes over a group's keys and values of a prompt: codes what is beyond the window and keeps the rest.
  void store_group(CompactSequence& sequence, std::int32_t group, const PrefillScratch& scratch);

  /// Forgets everything from position n_tokens on.
  /// @return false, and nothing is forgotten: tokens that a query at n_tokens reads exactly are coded already
  bool truncate(CompactSequence& sequence, std::int32_t n_tokens);
  void release(CompactSequence& sequence);

 private:
  std::vector<LayerPages> layers(std::int32_t group) const;
  /// Codes all pages before `first_exact`.
  void seal(CompactSequence& sequence, std::int32_t first_exact);
  /// Decodes archived pages into free places.
  void fill_residents(CompactSequence& sequence);
  void open(std::span<const OpenedUnit> units);
  void drop_page(CompactSequence& sequence, std::size_t index);

  CompactSettings settings_;
  CompactPlan plan_;
  std::int32_t n_layers_;
  PageMemory memory_;
  PagePool pool_;  // of memory_
  Archive archive_;
};

/// Adds the units of an archived page that are read from their codes: all but the first one of all.
void add_coded_units(std::vector<OpenedUnit>& units, std::int32_t number, std::int32_t coded,
                     std::int32_t decoded);

}  // namespace cga

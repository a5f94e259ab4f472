// How many pages of each kind Compact Grouped Attention needs, from its settings alone: planned before
// anything is allocated, and the same for the plan that is printed and the memory that is taken.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/checked.h"
#include "cga/exact_rule.h"
#include "tensor/latent_layout.h"

namespace cga {

/// How a query finds what it reads of the archive: by the sidecar's index, by the attention mass itself,
/// which takes a pass over everything before each choice (to evaluate the index), or not at all: it reads
/// everything.
enum class Selection : std::uint8_t { all, index, oracle };

/// A page of exact keys and values has room for twice as many residents.
inline constexpr std::int32_t resident_page_tokens = 2 * page_tokens;
inline constexpr std::int32_t resident_page_units = resident_page_tokens / unit_tokens;

/// Units that queries choose.
struct UnitBudget {
  std::int32_t mean = 0, least = 0, most = 0;
};

/// What a user sets; all in tokens but the rate.
struct CompactSettings {
  double bits = 0;  // a value of the archive
  ExactRule rule;
  std::int32_t residents = 0;  // archived tokens that are kept decoded, a sequence and selection group
  Selection selection = Selection::all;
  std::int32_t budget = 0;    // archived tokens that a query reads, unless it reads all
  bool keeps_marked = false;  // exact pages stay for going back to a mark
  std::int32_t refresh = 1;   // a query chooses anew at positions that are multiples of this; divides 64
  bool by_need = false;       // a query chooses as much as it needs, the budget on the mean
  float inertia = 0;          // how much better, in nats, a unit must be than one that the query before chose

  /// Choices begin afresh at positions that are multiples of this, and else depend on those since.
  std::int32_t choice_period() const { return inertia > 0 ? std::max(refresh, unit_tokens) : refresh; }

  /// Units that a query chooses, on the mean where it goes by need, if more are archived.
  std::int32_t budget_units() const { return budget / unit_tokens; }
  UnitBudget unit_budget() const {
    const std::int32_t mean = budget_units();
    return by_need ? UnitBudget{mean, div_up(mean, 4), 3 * mean} : UnitBudget{mean, mean, mean};
  }
};

/// Pages of one sequence that may grow to n_ctx tokens.
class CompactPlan {
 public:
  CompactPlan(const CompactSettings& settings, std::int32_t n_ctx) : settings_(settings), n_ctx_(n_ctx) {}

  /// Coded pages of a context of n_tokens.
  std::int32_t archived_pages(std::int32_t n_tokens) const {
    return settings_.rule.first_exact_page(n_tokens);
  }
  std::int32_t archived_pages() const { return archived_pages(n_ctx_); }

  /// Pages of keys and values that are held: exact ones, and those that hold residents.
  std::int32_t held_pages() const {
    const std::int32_t dense = div_up(settings_.rule.sparse_from, page_tokens);
    const std::int32_t residents = std::min(settings_.residents, archived_pages() * page_tokens);
    return std::min(all_pages(), std::max(dense, exact_pages() + div_up(residents, resident_page_tokens)));
  }

  /// Coded pages that may be held exact beside, for going back: as much as the window.
  std::int32_t kept_pages() const {
    return settings_.keeps_marked ? std::min(archived_pages(), 1 + settings_.rule.window / page_tokens) : 0;
  }

  /// Of held pages, how many may hold decoded units.
  std::int32_t resident_pages() const { return held_pages() - exact_pages(); }
  std::int32_t resident_units() const { return resident_page_units * resident_pages(); }

  /// Pages for archived units that may find no place among the residents and are decoded for each layer of a
  /// step: when all is read, or many queries at once choose differently.
  std::int32_t transient_pages() const { return transient_pages(page_units * archived_pages()); }

  /// Of these, what decoding token by token needs.
  std::int32_t decode_transient_pages() const {
    if (settings_.selection == Selection::all) return transient_pages();
    return std::min(transient_pages(), transient_pages(settings_.unit_budget().most));
  }

  /// Pages of a context of n_tokens that hold exact tokens.
  std::int32_t exact_pages(std::int32_t n_tokens) const {
    const std::int32_t archived = archived_pages(n_tokens);
    return div_up(n_tokens, page_tokens) - std::max(0, archived - 1);
  }

 private:
  std::int32_t all_pages() const { return div_up(n_ctx_, page_tokens); }

  /// Beyond the dense beginning: the first page, those of the window, and the one that is being filled.
  std::int32_t exact_pages() const { return std::min(all_pages(), 2 + settings_.rule.window / page_tokens); }

  /// Pages for what residents have no place for, of n_units that are read.
  std::int32_t transient_pages(std::int32_t n_units) const {
    return div_up(std::max(0, n_units - resident_units()), resident_page_units);
  }

  CompactSettings settings_;
  std::int32_t n_ctx_;
};

}  // namespace cga

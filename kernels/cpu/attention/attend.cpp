// Ops::attend: walks each tile of the plan over its pages. The arithmetic is in tile-inl.h and
// resident-inl.h; here are the loops, the softmax states and their merging.
//
// A row's result depends on its position alone: scores and weighted sums add up in the order of dims and
// tokens, and states merge in the order of runs, whatever rows share a tile and whatever thread works on it.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention/attend.cpp"
#include <hwy/foreach_target.h>  // must precede highway.h
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <type_traits>

#include "base/checked.h"
#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/gather.h"
#include "kernels/cpu/attention/page.h"
#include "kernels/cpu/attention/resident-inl.h"
#include "kernels/cpu/attention/state.h"
#include "kernels/cpu/attention/tile-inl.h"
#include "kernels/cpu/attention/unpack-inl.h"
#include "kernels/cpu/attention/work-inl.h"
#include "quant/hadamard.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

/// What pages of E (floats, bf16 bits or blocks) are when the tiles read them: blocks are unpacked first.
template <class E>
constexpr bool is_coded = !std::is_arithmetic_v<E>;
template <class E>
using TileElement = std::conditional_t<is_coded<E>, float, E>;

/// Copies a tile's queries as the scores read them, scaled so that weights are powers of two.
/// packed: for each block [head_dim, rows of the block]; row: [head_dim], for a transformed query
void pack_queries(const TileWork& work, float* packed, float* row) {
  const float scale = work.params.scale * 1.44269504f;  // log2(e)
  for (std::int32_t b = 0; b < work.blocks.count; ++b) {
    const std::int32_t begin = work.blocks.begin(b), n_rows = work.blocks.begin(b + 1) - begin;
    for (std::int32_t r = 0; r < n_rows; ++r) {
      const float* q = work.params.q + work.row_offset(begin + r);
      if (work.transformed) {
        std::copy_n(q, work.head_dim, row);
        hadamard(row, work.head_dim);
        q = row;
      }
      for (std::int32_t i = 0; i < work.head_dim; ++i) packed[i * n_rows + r] = q[i] * scale;
    }
    packed += n_rows * work.head_dim;
  }
}

/// All dims of weigh().
template <std::int32_t R, class T>
HWY_INLINE void weigh_all(const TileWork& work, const T* values, std::int32_t first, std::int32_t last,
                          const float* weights, const float* factors, float* sums, std::ptrdiff_t ahead) {
  constexpr std::int32_t P = pairs_for(R), step = 2 * P * lanes;
  std::int32_t i = 0;
  for (; i + step <= work.head_dim; i += step) {
    weigh<R, P>(values + i, work.head_dim, first, last, weights, factors, sums + i, work.stride, ahead);
  }
  for (; i < work.head_dim; i += 2 * lanes) {  // the last may read past a value, into what follows it
    weigh<R, 1>(values + i, work.head_dim, first, last, weights, factors, sums + i, work.stride, ahead);
  }
}

/// One block of R rows over one page.
/// @param q      [head_dim, R]
/// @param first  the block's first row in the tile
/// @param ahead  from this page's bytes to those that will be needed next
template <std::int32_t R, class T>
HWY_NOINLINE void block_over(const TileWork& work, const Place& place, const HeadBlock<T>& block,
                             const float* q, std::int32_t first, const SoftmaxState& state,
                             std::ptrdiff_t ahead) {
  constexpr std::int32_t P = HWY_MIN(pairs_for(R), panel_words / lanes);
  HWY_ALIGN float weights[R * page_tokens];  // scores, then weights
  HWY_ALIGN float factors[R];
  const std::int32_t least = work.valid(place, first), most = work.valid(place, first + R - 1);

  for (std::int32_t panel = 0; panel < most; panel += panel_tokens) {
    for (std::int32_t word = 0; word < panel_words; word += P * lanes) {
      score<R, P>(block.keys + panel * work.head_dim, word, q, work.head_dim, weights + panel, ahead);
    }
  }
  for (std::int32_t r = 0; r < R; ++r) {
    factors[r] = softmax_step(weights + r * page_tokens, work.valid(place, first + r),
                              state.highest[first + r], state.sum[first + r]);
  }
  float* sums = state.values + first * work.stride;
  weigh_all<R>(work, block.values, 0, least, weights, factors, sums, ahead);
  // Tokens that only later rows may see: row by row, so that no row multiplies what it must not read.
  const float one = 1.0f;
  for (std::int32_t r = 0; r < R && least < most; ++r) {
    weigh_all<1>(work, block.values, least, work.valid(place, first + r), weights + r * page_tokens, &one,
                 sums + r * work.stride, 0);
  }
}

/// All rows of a tile over one head of what is at a place.
/// @param block  HeadBlock or ResidentHeads
template <class Block>
void tile_over_head(const TileWork& work, const Place& place, const Block& block, const float* q,
                    const SoftmaxState& state, std::ptrdiff_t ahead) {
  for (std::int32_t b = 0; b < work.blocks.count; ++b) {
    const std::int32_t first = work.blocks.begin(b), n_rows = work.blocks.begin(b + 1) - first;
    switch (n_rows) {
      case 1:
        block_over<1>(work, place, block, q, first, state, ahead);
        break;
      case 2:
        block_over<2>(work, place, block, q, first, state, ahead);
        break;
      case 3:
        block_over<3>(work, place, block, q, first, state, ahead);
        break;
      case 4:
        block_over<4>(work, place, block, q, first, state, ahead);
        break;
      case 5:
        block_over<5>(work, place, block, q, first, state, ahead);
        break;
      default:
        block_over<6>(work, place, block, q, first, state, ahead);
        break;
    }
    q += n_rows * work.head_dim;
    ahead = 0;  // one block fetches for all
  }
}

/// Units that a choice has at a place of four, up to the tile's last token.
std::span<const std::int32_t> units_at(const TileWork& work, std::int32_t page) {
  const std::int32_t n_tokens = work.valid({page}, work.blocks.n_rows - 1);
  const auto units = work.sequence.units.subspan(static_cast<std::size_t>(page * page_units),
                                                 static_cast<std::size_t>(div_up(n_tokens, unit_tokens)));
  return units.first(
      static_cast<std::size_t>(std::find(units.begin(), units.end(), no_unit) - units.begin()));
}

/// Whether units are where they would be in a page.
bool is_page(std::span<const std::int32_t> units) {
  bool consecutive = units[0] % page_units == 0;
  for (std::size_t i = 1; i < units.size(); ++i) consecutive &= units[i] == units[i - 1] + 1;
  return consecutive;
}

/// Fetches what gather_units will read. Units lie anywhere, so no hardware foresees them.
template <class E>
void prefetch_units(const TileWork& work, std::span<const std::int32_t> units) {
  constexpr std::int32_t line = 64;
  const std::int32_t head_dim = work.head_dim;
  const auto vector_bytes = static_cast<std::int32_t>(sizeof(E)) * head_dim;
  for (const std::int32_t unit : units) {
    const auto block = head_block<E>(work.params.pages, unit / page_units, work.tile.kv_head);
    const std::int32_t first = unit % page_units * unit_tokens;
    const auto* values = reinterpret_cast<const char*>(block.values + first * head_dim);
    for (std::int32_t i = 0; i < unit_tokens * vector_bytes; i += line) prefetch(values, i);
    const E* keys = block.keys + first / panel_tokens * panel_tokens * head_dim + first % panel_tokens;
    for (std::int32_t i = 0; i < head_dim; ++i) prefetch(keys + i * panel_tokens, 0);
  }
}

/// Four units of pages: where they are, if they are a page, or brought together.
template <class E>
void tile_over_units(const TileWork& work, const Place& place, std::span<const std::int32_t> units,
                     std::span<const std::int32_t> next, const float* q, const SoftmaxState& state,
                     float* unpacked) {
  const auto head = [&](std::int32_t unit) {
    return head_block<E>(work.params.pages, unit / page_units, work.tile.kv_head);
  };
  std::ptrdiff_t ahead = 0;
  if (!next.empty() && next[0] >= 0) {
    if (is_page(units) && is_page(next)) {
      ahead = reinterpret_cast<const char*>(head(next[0]).values) -
              reinterpret_cast<const char*>(head(units[0]).values);
    } else {
      prefetch_units<E>(work, next);
    }
  }
  const HeadBlock<E> block = is_page(units) ? head(units[0])
                                            : gather_units(work.params.pages, units, work.tile.kv_head,
                                                           reinterpret_cast<E*>(unpacked));
  tile_over_head(work, place, block, q, state, ahead);
}

/// Four units of a choice.
template <class E>
void tile_over_choice(const TileWork& work, std::int32_t page, const float* q, const SoftmaxState& state,
                      float* unpacked) {
  const auto units = units_at(work, page);
  const auto next = page + 1 < work.n_pages() ? units_at(work, page + 1) : std::span<const std::int32_t>();
  const Place place{page, static_cast<std::int32_t>(units.size()) * unit_tokens};
  if (units[0] >= 0) return tile_over_units<E>(work, place, units, next, q, state, unpacked);
  ResidentHeads heads;
  heads.n_units = static_cast<std::int32_t>(units.size());
  find_residents(work, units, heads.unit);
  find_residents(work, !next.empty() && next[0] < 0 ? next : units, heads.next);
  tile_over_head(work, place, heads, q, state, 0);
}

/// @param unpacked  [2 * page_tokens * head_dim], if pages hold blocks or units are chosen
template <class E>
void tile_over_page(const TileWork& work, std::int32_t page, const float* q, const SoftmaxState& state,
                    float* unpacked) {
  if constexpr (!is_coded<E>) {
    if (!work.sequence.units.empty()) return tile_over_choice<E>(work, page, q, state, unpacked);
  }
  const auto head = [&](std::int32_t p) {
    const std::int32_t id = work.sequence.pages[static_cast<std::size_t>(p)];
    if constexpr (is_coded<E>) {
      return coded_head<E>(work.params.pages, id, work.tile.kv_head);
    } else {
      return head_block<E>(work.params.pages, id, work.tile.kv_head);
    }
  };
  const auto block = head(page);
  const std::int32_t next = HWY_MIN(page + 1, work.n_pages() - 1);
  const std::ptrdiff_t ahead =
      reinterpret_cast<const char*>(head(next).values) - reinterpret_cast<const char*>(block.values);
  if constexpr (is_coded<E>) {
    const std::int32_t n_tokens = work.valid({page}, work.blocks.n_rows - 1);
    tile_over_head(work, {page}, unpack_head(block, work.head_dim, n_tokens, unpacked, ahead), q, state, 0);
  } else {
    tile_over_head(work, {page}, block, q, state, ahead);
  }
}

void clear(const TileWork& work, const SoftmaxState& state) {
  for (std::int32_t r = 0; r < work.blocks.n_rows; ++r) {
    state.highest[r] = lowest_score;
    state.sum[r] = 0.0f;
  }
  for (std::int32_t i = 0; i < work.blocks.n_rows * work.stride; ++i) state.values[i] = 0.0f;
}

/// Adds a later run's state to the sum of the earlier ones.
void merge(const TileWork& work, const SoftmaxState& total, const SoftmaxState& run) {
  const F f;
  for (std::int32_t r = 0; r < work.blocks.n_rows; ++r) {
    const auto top = hn::Set(f, HWY_MAX(total.highest[r], run.highest[r]));
    const auto old = exp2_negative(hn::Sub(hn::Set(f, total.highest[r]), top));
    const auto added = exp2_negative(hn::Sub(hn::Set(f, run.highest[r]), top));
    total.highest[r] = hn::GetLane(top);
    total.sum[r] = total.sum[r] * hn::GetLane(old) + run.sum[r] * hn::GetLane(added);
    for (std::int32_t i = r * work.stride; i < (r + 1) * work.stride; i += lanes) {
      const auto kept = hn::Mul(old, hn::LoadU(f, total.values + i));
      hn::StoreU(hn::MulAdd(added, hn::LoadU(f, run.values + i), kept), f, total.values + i);
    }
  }
}

/// Divides by the sums of weights and writes the rows in the order of dims.
template <class T>
void write_rows(const TileWork& work, const SoftmaxState& state) {
  const F f;
  HWY_ALIGN float last_dims[2 * lanes];
  for (std::int32_t r = 0; r < work.blocks.n_rows; ++r) {
    float* out = work.params.out + work.row_offset(r);
    const auto inverse = hn::Set(f, 1.0f / state.sum[r]);
    const float* values = state.values + r * work.stride;
    for (std::int32_t i = 0; i < work.head_dim; i += 2 * lanes) {
      const Pair pair = {hn::Mul(inverse, hn::LoadU(f, values + i)),
                         hn::Mul(inverse, hn::LoadU(f, values + i + lanes))};
      if (i + 2 * lanes <= work.head_dim) {
        store_dims(pair, static_cast<const T*>(nullptr), out + i);
      } else {
        store_dims(pair, static_cast<const T*>(nullptr), last_dims);
        for (std::int32_t d = i; d < work.head_dim; ++d) out[d] = last_dims[d - i];
      }
    }
    if (work.transformed) hadamard(out, work.head_dim);
  }
}

template <class E>
void attend_item_of(const AttendParams& params, const AttendItem& item, float* scratch, float* partial) {
  const TileWork work(params, item.tile);
  const std::int64_t state_size = state_floats(work.blocks.n_rows, work.head_dim);
  const bool all = item.run < 0;
  const SoftmaxState total(all ? scratch : partial, work.blocks.n_rows, work.head_dim);
  const SoftmaxState later(scratch + state_size, work.blocks.n_rows, work.head_dim);
  float* q = scratch + 2 * state_size;
  float* unpacked = q + round_up(work.blocks.n_rows * work.head_dim, 16);  // first, room for a row
  pack_queries(work, q, unpacked);

  const std::int32_t first_run = all ? 0 : item.run;
  const std::int32_t last_run = all ? (work.n_pages() - 1) / run_pages : item.run;
  for (std::int32_t run = first_run; run <= last_run; ++run) {
    const SoftmaxState& state = run == first_run ? total : later;
    clear(work, state);
    const std::int32_t end = HWY_MIN((run + 1) * run_pages, work.n_pages());
    for (std::int32_t page = run * run_pages; page < end; ++page) {
      tile_over_page<E>(work, page, q, state, unpacked);
    }
    if (run != first_run) merge(work, total, later);
  }
  if (all) write_rows<TileElement<E>>(work, total);
}

/// One item of the plan.
/// @param scratch  two states and the packed queries of the largest tile, and a page's head as floats
/// @param partial  where an item of one run leaves its state
void attend_item(const AttendParams& params, const AttendItem& item, float* scratch, float* partial) {
  switch (params.pages.layout.element) {
    case KvElement::bf16:
      return attend_item_of<std::uint16_t>(params, item, scratch, partial);
    case KvElement::f32:
      return attend_item_of<float>(params, item, scratch, partial);
    case KvElement::q8:
      return attend_item_of<BlockQ8_0>(params, item, scratch, partial);
    case KvElement::q4:
      return attend_item_of<BlockQ4_0>(params, item, scratch, partial);
    case KvElement::i8:
      return;  // residents are never all that is read
  }
}

/// The end of a tile that was split.  partials: [n_runs, partial_size]
void merge_runs(const AttendParams& params, const AttendMerge& merged, float* partials,
                std::int64_t partial_size) {
  const TileWork work(params, merged.tile);
  const SoftmaxState total(partials, work.blocks.n_rows, work.head_dim);
  for (std::int32_t run = 1; run < merged.n_runs; ++run) {
    merge(work, total, SoftmaxState(partials + run * partial_size, work.blocks.n_rows, work.head_dim));
  }
  if (params.pages.layout.element == KvElement::bf16) {
    write_rows<std::uint16_t>(work, total);
  } else {
    write_rows<float>(work, total);
  }
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cga::cpu {
namespace {

HWY_EXPORT(attend_item);
HWY_EXPORT(merge_runs);

}  // namespace

void attend(const AttendParams& params, ThreadPool& pool, AttentionScratch& scratch) {
  const KvLayout& layout = params.pages.layout;
  AttendPlan& plan = scratch.plan;
  plan_attend(plan, params.sequences, layout.n_kv_heads, params.n_heads / layout.n_kv_heads, pool.size());

  // Scratch: for each thread two states, the packed queries and room to unpack blocks; then the states of
  // split tiles.
  const std::int64_t state_size = state_floats(plan.largest_tile, layout.head_dim);
  const bool gathers = std::any_of(params.sequences.begin(), params.sequences.end(),
                                   [](const SequenceRows& rows) { return !rows.units.empty(); });
  const std::int64_t unpacked =
      is_block_coded(layout.element) || gathers ? std::int64_t{2} * page_tokens * layout.head_dim : 0;
  const std::int64_t thread_size =
      2 * state_size + round_up<std::int64_t>(plan.largest_tile * layout.head_dim, 16) + unpacked;
  float* const threads =
      scratch.floats(static_cast<std::size_t>(pool.size() * thread_size + plan.n_partials * state_size));
  float* const partials = threads + pool.size() * thread_size;

  pool.parallel_for(static_cast<std::int64_t>(plan.items.size()), [&](std::int64_t i, int thread) {
    const AttendItem& item = plan.items[static_cast<std::size_t>(i)];
    HWY_DYNAMIC_DISPATCH(attend_item)
    (params, item, threads + thread * thread_size,
     item.partial < 0 ? nullptr : partials + item.partial * state_size);
  });
  for (const AttendMerge& merged : plan.merges) {
    HWY_DYNAMIC_DISPATCH(merge_runs)
    (params, merged, partials + merged.first_partial * state_size, state_size);
  }
}

}  // namespace cga::cpu
#endif  // HWY_ONCE

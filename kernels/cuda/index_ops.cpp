// The index's ops: which rows, where their pages are, and how a choice comes to the host, which decides by
// it.
#include <algorithm>
#include <bit>
#include <cstring>

#include "base/checked.h"
#include "cga/error.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {

void CudaOps::index_keys(const IndexKeysParams& params) {
  const Sequences rows = put_pages(params.sequences);
  const IndexKeysArgs args{.k = params.k,
                           .cos_sin = params.cos_sin,
                           .base = params.pages.base,
                           .layout = params.pages.layout,
                           .sequences = rows.sequences,
                           .pages = rows.ids,
                           .n_sequences = rows.n_sequences,
                           .n_rows = rows.n_rows};
  steps_.launch([=](cudaStream_t stream) { cuda::index_keys(args, stream); }, args.k, args.cos_sin, args.base,
                args.layout.width, args.sequences, args.pages, args.n_sequences, args.n_rows);
}

CudaOps::Scored CudaOps::put_scored(std::span<const ScoredRow> rows) {
  // Of a step that may come again as CudaOps::put, and the grid for as many units as there may be then.
  const std::int32_t bound = steps_.may_be_recorded() ? steps_.position_bound() : 0;
  const auto room = static_cast<std::size_t>(div_up(bound, page_tokens));
  Scored put;
  put.most_units = div_up(bound, unit_tokens);
  scored_.clear(), pages_.clear();
  std::size_t n_lists = 0;
  const std::int32_t* last_list = nullptr;  // rows of a sequence share one
  std::int32_t first_page = 0;
  for (const ScoredRow& row : rows) {
    if (row.pages.data() != last_list) {
      first_page = static_cast<std::int32_t>(pages_.size());
      pages_.insert(pages_.end(), row.pages.begin(), row.pages.end());
      pages_.resize(std::max(pages_.size(), ++n_lists * room));
      last_list = row.pages.data();
    }
    scored_.push_back({row.row, row.first, row.last, first_page});
    put.most_units = std::max(put.most_units, row.last - row.first);
  }
  put.n_rows = static_cast<std::int32_t>(rows.size());
  put.rows = steps_.put(std::span<const ScoredMeta>(scored_));
  put.pages = steps_.put(std::span<const std::int32_t>(pages_));
  return put;
}

void CudaOps::score_units(const ScoreUnitsParams& params) {
  const Scored rows = put_scored(params.rows);
  const ScoreUnitsArgs args{.q = params.q,
                            .weights = params.weights,
                            .cos_sin = params.cos_sin,
                            .n_heads = params.n_heads,
                            .base = params.pages.base,
                            .layout = params.pages.layout,
                            .rows = rows.rows,
                            .pages = rows.pages,
                            .n_rows = rows.n_rows,
                            .most_units = rows.most_units,
                            .scores = params.scores,
                            .stride = params.stride};
  steps_.identify(args.base, args.layout.width, args.rows, args.pages, args.n_rows, args.most_units);
  steps_.launch([=](cudaStream_t stream) { cuda::score_units(args, stream); }, args.q, args.weights,
                args.cos_sin, args.n_heads, args.scores, args.stride);
}

void CudaOps::top_units(const TopUnitsParams& params) {
  if (params.rows.empty() || params.count == 0) return;
  if (steps_.is_decode() && !steps_.host_decides()) {
    throw Error(ErrorKind::device, "top_units", "a choice in a step that was not said to wait for one");
  }
  const auto count = static_cast<std::size_t>(params.count);
  const std::size_t n_units = params.rows.size() * count;  // the rows' counts are behind them
  const std::size_t bytes = (n_units + params.rows.size()) * sizeof(std::int32_t);
  // In steps of a power of two: what was recorded is forgotten with the memory it copies.
  constexpr std::size_t least_room = 4096;
  need(choice_, std::bit_ceil(std::max(bytes, least_room)), "choices of units");
  before_.clear(), before_of_.clear();
  for (std::size_t i = 0; i < params.rows.size(); ++i) {
    const std::int32_t* const before = params.rows[i].before;
    if (before == nullptr) {
      before_of_.push_back({no_predecessor, 0});
    } else if (i > 0 && before == params.units + (i - 1) * count) {
      before_of_.push_back({follows_row, 0});  // not there yet
    } else {
      const std::int32_t n_before = params.rows[i].n_before;
      before_of_.push_back({static_cast<std::int32_t>(before_.size()), n_before});
      before_.insert(before_.end(), before, before + n_before);
    }
  }
  if (steps_.may_be_recorded()) before_.resize(n_units);
  const Scored rows = put_scored(params.rows);
  const TopUnitsArgs args{.scores = params.scores,
                          .stride = params.stride,
                          .rows = rows.rows,
                          .n_rows = rows.n_rows,
                          .count = params.count,
                          .bonus = params.bonus,
                          .need = params.need,
                          .mean = params.mean,
                          .least = params.least,
                          .before_of = steps_.put(std::span<const Before>(before_of_)),
                          .before = steps_.put(std::span<const std::int32_t>(before_)),
                          .units = reinterpret_cast<std::int32_t*>(choice_->data()),
                          .counts = reinterpret_cast<std::int32_t*>(choice_->data()) + n_units};
  void* const landed = choice_landing_.need(choice_->bytes());  // grows only with the other
  const auto start = [=](cudaStream_t stream) {
    cuda::top_units(args, stream);
    check(cudaMemcpyAsync(landed, args.units, bytes, cudaMemcpyDeviceToHost, stream), "reading a choice");
  };
  steps_.launch(start, args.scores, args.stride, args.rows, args.n_rows, args.count, args.bonus, args.need,
                args.mean, args.least, args.before_of, args.before, args.units, args.counts, landed);
  steps_.synchronize();
  const auto* const units = static_cast<const std::int32_t*>(landed);
  std::copy_n(units, n_units, params.units);
  if (params.need != nullptr) std::copy_n(units + n_units, params.rows.size(), params.counts);
}

void CudaOps::attention_mass(const AttentionMassParams& params) {
  // Who asks for it runs layers twice, and frees memory between ops: nothing that should be put off.
  steps_.run_rest_directly();
  const bool units = reads_units(params.sequences);
  const Sequences rows = put(params.sequences, units, false);
  const KvLayout& layout = params.pages.layout;
  need(mass_scratch_, static_cast<std::size_t>(rows.n_rows) * params.n_heads * sizeof(float2),
       "scratch of attention mass");
  const MassArgs args{.q = params.q,
                      .n_heads = params.n_heads,
                      .scale = params.scale,
                      .base = params.pages.base,
                      .layout = layout,
                      .sequences = rows.sequences,
                      .pages = rows.ids,
                      .units = units,
                      .residents = residents_of(params.residents),
                      .n_sequences = rows.n_sequences,
                      .n_rows = rows.n_rows,
                      .max_tokens = rows.max_tokens,
                      .sums = reinterpret_cast<float2*>(mass_scratch_->data()),
                      .mass = params.mass,
                      .stride = params.stride};
  steps_.identify(args.base, layout.n_kv_heads, layout.head_dim, layout.element, args.residents.base,
                  args.residents.scales);
  steps_.launch([=](cudaStream_t stream) { cuda::attention_mass(args, stream); }, args.q, args.n_heads,
                args.scale, args.sequences, args.pages, args.units, args.n_sequences, args.n_rows,
                args.max_tokens, args.sums, args.mass, args.stride);
}

}  // namespace cga::cuda

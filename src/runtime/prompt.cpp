// Prompts under cga: layer group by layer group over the whole prompt, so that it reads itself exactly and
// only one group's keys and values are ever there uncoded; and going back to where something was coded.
#include <algorithm>
#include <numeric>

#include "cga/prefill_scratch.h"
#include "runtime/engine_impl.h"

namespace cga {
namespace {

/// Rows of a chunk whose logits are wanted, counted from its first.
std::vector<std::int32_t> chunk_logit_rows(Feed::Want want, std::int32_t n, bool last_chunk) {
  std::vector<std::int32_t> rows;
  if (want == Feed::Want::all) {
    rows.resize(static_cast<std::size_t>(n));
    std::iota(rows.begin(), rows.end(), 0);
  } else if (want == Feed::Want::last && last_chunk) {
    rows.push_back(n - 1);
  }
  return rows;
}

std::int32_t largest_group(std::span<const LayerRange> groups) {
  std::int32_t n_layers = 0;
  for (const LayerRange group : groups) n_layers = std::max(n_layers, group.size());
  return n_layers;
}

}  // namespace

bool Engine::Impl::is_long_prompt(const Feed& feed) const {
  return compact && feed.span == Feed::Span::prompt && feed.session->n_past() == 0 &&
         static_cast<std::int64_t>(feed.tokens.size()) > compact->rule().sparse_from;
}

std::optional<std::int64_t> Engine::Impl::run_prompt(const Feed& feed, std::int64_t first_row,
                                                     const GoOn& go_on) {
  Session::Impl& session = *feed.session->impl_;
  const auto n_tokens = static_cast<std::int32_t>(feed.tokens.size());
  const std::int64_t dim = model.hparams.dim;
  const auto n_groups = static_cast<std::int32_t>(model.plan.groups.size());
  const auto hidden = backend->allocate(static_cast<std::size_t>(n_tokens * dim) * sizeof(float),
                                        "hidden states of the prompt");
  std::vector<std::int32_t> positions(feed.tokens.size());
  std::iota(positions.begin(), positions.end(), 0);

  std::int64_t n_rows = 0;
  compact->begin_prompt(session.compact, n_tokens);
  PrefillScratch scratch(*backend, compact->layout(), largest_group(model.plan.groups), n_tokens,
                         compact->index(), session.compact.index_pages());
  for (std::int32_t g = 0; g < n_groups; ++g) {
    const LayerRange range = model.plan.groups[static_cast<std::size_t>(g)];
    scratch.begin_group(range);
    for (std::int32_t at = 0; at < n_tokens; at += options.n_ubatch) {
      const std::int32_t n = std::min(options.n_ubatch, n_tokens - at);
      scratch.begin_chunk(at, n);
      const auto first = static_cast<std::size_t>(at), count = static_cast<std::size_t>(n);
      std::vector<std::int32_t> rows;
      if (g == n_groups - 1) rows = chunk_logit_rows(feed.want, n, at + n == n_tokens);
      const Batch batch{feed.tokens.subspan(first, count), std::span(positions).subspan(first, count), rows,
                        hidden->as<float>() + at * dim};
      float* out = logits ? logits->as<float>() + (first_row + n_rows) * info.n_vocab : nullptr;
      forward(model, backend->ops(), scratch, batch, range, *activations, out);
      n_rows += static_cast<std::int64_t>(rows.size());
      if (go_on((std::int64_t{g} * n_tokens + at + n) / n_groups)) continue;
      compact->release(session.compact);
      return std::nullopt;
    }
    compact->store_group(session.compact, g, scratch);
  }
  session.tokens.assign(feed.tokens.begin(), feed.tokens.end());
  session.n_prompt = feed.tokens.size();
  return n_rows;
}

void Engine::Impl::truncate(Session& session, std::int32_t n) {
  Session::Impl& s = *session.impl_;
  const auto n_kept = static_cast<std::size_t>(n);
  s.n_prompt = std::min(s.n_prompt, n_kept);
  if (!compact) {
    cache->truncate(s.pages, n);
    s.tokens.resize(n_kept);
    return;
  }
  const std::vector<TokenId> kept(s.tokens.begin(), s.tokens.begin() + n);
  const std::size_t n_prompt = s.n_prompt;
  const std::span<const TokenId> all = kept;
  // Tokens that share a choice with one before them read again what that one chose.
  const std::size_t shared = n_kept % static_cast<std::size_t>(options.kv_refresh);
  const std::size_t again = n_kept - std::min(shared, n_kept - n_prompt);
  if (compact->truncate(s.compact, static_cast<std::int32_t>(again))) {
    s.tokens.resize(again);
    const Feed feed{&session, all.subspan(again), Feed::Want::none, Feed::Span::generated};
    if (again < n_kept) run_feeds({&feed, 1}, {});
    return;
  }
  compact->release(s.compact);
  s.tokens.clear();
  s.n_prompt = 0;
  for (const auto& [tokens, span] : {std::pair(all.first(n_prompt), Feed::Span::prompt),
                                     std::pair(all.subspan(n_prompt), Feed::Span::generated)}) {
    const Feed feed{&session, tokens, Feed::Want::none, span};
    if (!tokens.empty()) run_feeds({&feed, 1}, {});
  }
}

}  // namespace cga

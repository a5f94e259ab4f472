// Text under cga: layer group by layer group over the whole text, so that it reads itself exactly and only
// one group's keys and values are ever there uncoded; and going back to where something was coded.
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

/// What is left of spans in the first n tokens.
std::vector<TextSpan> cut(std::vector<TextSpan> texts, std::size_t n) {
  std::erase_if(texts, [n](const TextSpan& text) { return text.first >= n; });
  if (!texts.empty()) texts.back().last = std::min(texts.back().last, n);
  return texts;
}

}  // namespace

bool Engine::Impl::is_text(const Feed& feed) const {
  // A text's last piece may be a single row too: what counts is what was fed.
  if (!compact) return feed.tokens.size() != 1;
  const bool is_whole = feed.session->n_past() == 0 ||
                        static_cast<std::int64_t>(feed.tokens.size()) >= options.kv_followup_from ||
                        feed.session->impl_->replays;
  return feed.span == Feed::Span::prompt && is_whole;
}

bool Engine::Impl::is_long_text(const Feed& feed) const {
  const std::int64_t past = feed.session->n_past(), n = static_cast<std::int64_t>(feed.tokens.size());
  return compact && is_text(feed) && past + n > compact->rule().sparse_from;
}

std::optional<std::int64_t> Engine::Impl::run_text(const Feed& feed, std::int64_t first_row,
                                                   const GoOn& go_on) {
  Session::Impl& session = *feed.session->impl_;
  const std::int32_t past = feed.session->n_past();
  const auto n_tokens = static_cast<std::int32_t>(feed.tokens.size());
  const std::int64_t dim = model.hparams.dim;
  const auto n_groups = static_cast<std::int32_t>(model.plan.groups.size());
  const auto hidden = backend->allocate(static_cast<std::size_t>(n_tokens * dim) * sizeof(float),
                                        "hidden states of the prompt");
  std::vector<std::int32_t> positions(feed.tokens.size());
  std::iota(positions.begin(), positions.end(), past);

  std::int64_t n_rows = 0;
  const IncomingText text = compact->begin_text(session.compact, n_tokens);
  PrefillScratch scratch(*backend, compact->layout(), largest_group(model.plan.groups), past + n_tokens,
                         compact->index(), session.compact.index_pages());
  for (std::int32_t g = 0; g < n_groups; ++g) {
    const LayerRange range = model.plan.groups[static_cast<std::size_t>(g)];
    scratch.begin_group(range);
    compact->load_group(session.compact, text, g, scratch);
    for (std::int32_t at = 0; at < n_tokens; at += options.n_ubatch) {
      const std::int32_t n = std::min(options.n_ubatch, n_tokens - at);
      scratch.begin_chunk(past + at, n);
      const auto first = static_cast<std::size_t>(at), count = static_cast<std::size_t>(n);
      std::vector<std::int32_t> rows;
      if (g == n_groups - 1) rows = chunk_logit_rows(feed.want, n, at + n == n_tokens);
      const Batch batch{feed.tokens.subspan(first, count), std::span(positions).subspan(first, count), rows,
                        hidden->as<float>() + at * dim};
      float* out = logits ? logits->as<float>() + (first_row + n_rows) * info.n_vocab : nullptr;
      const StepShape shape{.kind = StepShape::Kind::text,
                            .n_tokens = n,
                            .n_sequences = 1,
                            .n_logit_rows = static_cast<std::int32_t>(rows.size()),
                            .max_position = past + at + n - 1};
      backend->run_step(shape,
                        [&] { forward(model, backend->ops(), scratch, batch, range, *activations, out); });
      n_rows += static_cast<std::int64_t>(rows.size());
      if (go_on((std::int64_t{g} * n_tokens + at + n) / n_groups)) continue;
      stop_text(session, past);
      return std::nullopt;
    }
    compact->store_group(session.compact, text, g, scratch);
  }
  session.tokens.insert(session.tokens.end(), feed.tokens.begin(), feed.tokens.end());
  session.texts.push_back({static_cast<std::size_t>(past), session.tokens.size()});
  return n_rows;
}

void Engine::Impl::stop_text(Session::Impl& session, std::int32_t past) {
  if (past > 0 && session.compact.marked_from() <= past && compact->truncate(session.compact, past)) return;
  // Exact pages may be overwritten by now.
  compact->release(session.compact);
  session.tokens.clear();
  session.texts.clear();
}

void Engine::Impl::truncate(Session& session, std::int32_t n) {
  Session::Impl& s = *session.impl_;
  const auto n_kept = static_cast<std::size_t>(n);
  const std::vector<TextSpan> texts = cut(s.texts, n_kept);
  if (!compact) {
    cache->truncate(s.pages, n);
    s.tokens.resize(n_kept);
    return;
  }
  const std::vector<TokenId> kept(s.tokens.begin(), s.tokens.begin() + n);
  // What a token chooses may depend on what those before it chose, back to where choices began afresh.
  const std::size_t end_of_text = texts.empty() ? 0 : texts.back().last;
  const std::size_t shared = n_kept % static_cast<std::size_t>(compact->settings().choice_period());
  const std::size_t again = n_kept - std::min(shared, n_kept - end_of_text);
  if (compact->truncate(s.compact, static_cast<std::int32_t>(again))) {
    s.tokens.resize(again);
    s.texts = texts;
    replay(session, std::span(kept).subspan(again), {});
    return;
  }
  compact->release(s.compact);
  s.tokens.clear();
  s.texts.clear();
  replay(session, kept, texts);
}

void Engine::Impl::replay(Session& session, std::span<const TokenId> tokens,
                          std::span<const TextSpan> texts) {
  session.impl_->replays = true;
  const auto feed = [&](std::size_t first, std::size_t last, Feed::Span span) {
    const Feed one{&session, tokens.subspan(first, last - first), Feed::Want::none, span};
    if (first < last) run_feeds({&one, 1}, {});
  };
  std::size_t at = 0;
  for (const TextSpan& text : texts) {
    feed(at, text.first, Feed::Span::generated);
    feed(text.first, text.last, Feed::Span::prompt);
    at = text.last;
  }
  feed(at, tokens.size(), Feed::Span::generated);
  session.impl_->replays = false;
}

}  // namespace cga

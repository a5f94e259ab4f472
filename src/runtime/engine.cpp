// Loading, and the way of a batch: feeds → rows of at most n_ubatch tokens → forward → logits.
#include "cga/engine.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <thread>
#include <utility>

#include "base/checked.h"
#include "runtime/compact_setup.h"
#include "runtime/engine_impl.h"
#include "runtime/memory_plan.h"
#include "runtime/model_source.h"
#include "runtime/vocabulary_from_file.h"

namespace cga {
namespace {

void check_options(const EngineOptions& options) {
  const auto require = [](bool holds, std::string_view where, std::int64_t found, std::string_view expected) {
    if (holds) return;
    throw Error(ErrorKind::usage, where,
                "found " + std::to_string(found) + ", expected " + std::string(expected));
  };
  constexpr std::int32_t max_ctx = 1 << 26;
  require(options.n_ctx >= 0 && options.n_ctx <= max_ctx, "--ctx-size", options.n_ctx, "0 to 67108864");
  require(options.n_sequences >= 1 && options.n_sequences <= 4096, "sequences", options.n_sequences,
          "1 to 4096");
  require(options.n_ubatch >= 1 && options.n_ubatch <= 65536, "--ubatch-size", options.n_ubatch,
          "1 to 65536");
  require(options.n_threads >= 0 && options.n_threads <= 1024, "--threads", options.n_threads, "0 to 1024");
}

/// Token ids index the embedding: a caller's mistake must not read outside it.
void check_ids(std::span<const TokenId> tokens, std::int64_t n_vocab) {
  for (const TokenId id : tokens) {
    if (id >= 0 && id < n_vocab) continue;
    throw Error(ErrorKind::usage, "tokens",
                "found id " + std::to_string(id) + ", expected 0 to " + std::to_string(n_vocab - 1));
  }
}

std::int64_t wanted_rows(const Feed& feed) {
  if (feed.tokens.empty() || feed.want == Feed::Want::none) return 0;
  return feed.want == Feed::Want::all ? static_cast<std::int64_t>(feed.tokens.size()) : 1;
}

}  // namespace

StepShape BatchBuilder::shape() const {
  const auto count = [](const auto& list) { return static_cast<std::int32_t>(list.size()); };
  return {.kind = kind,
          .n_tokens = count(ids),
          .n_sequences = count(sequences),
          .n_logit_rows = count(logit_rows),
          .max_position = *std::max_element(positions.begin(), positions.end())};
}

void BatchBuilder::clear() {
  compact.clear();
  ids.clear();
  positions.clear();
  logit_rows.clear();
  sequences.clear();
}

Engine::Engine(const EngineOptions& options) : impl_(std::make_unique<Impl>()) {
  check_options(options);
  Impl& e = *impl_;
  e.options = options;
  e.file = open_model(options);
  const Family& family = family_of(*e.file);
  e.model.hparams = read_hparams(*e.file, family);
  if (e.options.n_ctx == 0) e.options.n_ctx = e.model.hparams.n_ctx_train;
  e.info = describe_model(*e.file, e.model.hparams);
  if (options.shape.empty()) e.tokenizer = make_tokenizer(vocabulary_from_file(*e.file));
  e.chat_template = e.file->text("tokenizer.chat_template");

  e.backend = make_backend(backend_options(options));
  e.options.n_threads = e.backend->n_threads();
  e.info.device = e.backend->description();
  e.sidecar = find_sidecar(e.options, *e.file, family, e.model.hparams);
  const Sidecar* sidecar = e.sidecar ? &*e.sidecar : nullptr;
  resolve_kv_options(e.options, sidecar);
  const auto plan_at = [&](std::int32_t n_ctx) {
    EngineOptions at = e.options;
    at.n_ctx = n_ctx;
    return plan_memory(at, *e.file, family, e.model.hparams, e.backend->ops(), sidecar);
  };
  e.plan = plan_at(e.options.n_ctx);
  if (e.options.kv != KvType::cga) e.sidecar.reset();  // the context stays exact
  check_fits(e.plan, e.backend->memory(), plan_at);    // before anything is read
  e.model.weights = load_weights(*e.file, family, e.model.hparams, *e.backend, options.progress);
  e.model.plan = LayerPlan::dense(e.model.hparams.n_layers);
  e.info.n_vocab = static_cast<std::int32_t>(e.model.weights.n_vocab());
  if (e.tokenizer && e.tokenizer->n_vocab() > e.info.n_vocab) {
    throw Error(ErrorKind::bad_file, e.file->path().string(),
                "tensor 'token_embd.weight': found " + std::to_string(e.info.n_vocab) + " rows, expected " +
                    std::to_string(e.tokenizer->n_vocab()) + " (the tokens of the vocabulary)");
  }

  // A file may hold tensors that nobody reads.
  e.plan.weights = e.model.weights.bytes() + e.model.weights.embedding->bytes;
  e.make_cache();
  reserve_work(e.options, e.model.hparams, e.info.n_vocab, e.backend->ops());
  e.activations = std::make_unique<Activations>(*e.backend, e.model.hparams, options.n_ubatch);
}

Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

const ModelInfo& Engine::info() const {
  return impl_->info;
}
const MemoryPlan& Engine::plan() const {
  return impl_->plan;
}
const EngineOptions& Engine::options() const {
  return impl_->options;
}
const std::optional<std::string>& Engine::chat_template() const {
  return impl_->chat_template;
}

const Tokenizer& Engine::tokenizer() const {
  if (!impl_->tokenizer) throw Error(ErrorKind::usage, "--shape", "random weights have no tokenizer");
  return *impl_->tokenizer;
}

std::span<const float> Engine::run(std::span<const Feed> feeds, const GoOn& go_on) {
  return impl_->read_logits(0, feed(feeds, go_on));
}

std::int64_t Engine::feed(std::span<const Feed> feeds, const GoOn& go_on) {
  Impl& e = *impl_;
  e.check_room(feeds);
  std::int64_t total_rows = 0;
  for (const Feed& feed : feeds) total_rows += wanted_rows(feed);
  e.n_logit_rows = 0;
  e.shortlists.clear();
  e.reserve_logits(total_rows);
  e.n_logit_rows = e.run_feeds(feeds, go_on).value_or(0);
  return e.n_logit_rows;
}

std::optional<std::int64_t> Engine::Impl::run_feeds(std::span<const Feed> feeds, const GoOn& go_on) {
  std::int64_t done_rows = 0, done_tokens = 0;
  // Runs the batch in the making. @return whether to go on
  const auto flush = [&](bool ask) {
    done_tokens += builder.n_tokens();
    done_rows += run_builder(done_rows);
    return !ask || !go_on || go_on(done_tokens);
  };
  builder.clear();
  for (const Feed& feed : feeds) {
    if (is_long_text(feed)) {
      flush(false);
      const auto counted = [&](std::int64_t n) { return !go_on || go_on(done_tokens + n); };
      const auto rows = run_text(feed, done_rows, counted);
      if (!rows) return std::nullopt;
      done_rows += *rows;
      done_tokens += static_cast<std::int64_t>(feed.tokens.size());
      continue;
    }
    const StepShape::Kind kind = is_text(feed) ? StepShape::Kind::text : StepShape::Kind::decode;
    if (!backend->kinds_agree() && builder.n_tokens() > 0 && builder.kind != kind) {
      if (!flush(true)) return std::nullopt;
    }
    builder.kind = kind;
    for (std::size_t at = 0; at < feed.tokens.size();) {
      const std::size_t n = piece_tokens(feed, at);
      const bool last = at + n == feed.tokens.size();
      add_rows(feed, feed.tokens.subspan(at, n), last);
      at += n;
      // What follows in the same sequence may read other pages from the archive: not in this batch.
      const bool full = builder.n_tokens() == options.n_ubatch || !last;
      if (full && !flush(at < feed.tokens.size())) return std::nullopt;
    }
  }
  flush(false);
  return done_rows;
}

std::size_t Engine::Impl::piece_tokens(const Feed& feed, std::size_t at) const {
  std::int64_t n =
      std::min(options.n_ubatch - builder.n_tokens(), static_cast<std::int64_t>(feed.tokens.size() - at));
  if (compact) {
    const std::int32_t position = feed.session->n_past();
    n = std::min<std::int64_t>(n, compact->rule().run_end(position) - position);
  }
  return static_cast<std::size_t>(n);
}

void Engine::Impl::make_cache() {
  const KvLayout layout = kv_layout(model.hparams, options.kv);
  if (options.kv != KvType::cga) {
    const std::int32_t n_pages = div_up(options.n_ctx, page_tokens) * options.n_sequences;
    cache = std::make_unique<KvCache>(*backend, layout, model.hparams.n_layers, n_pages);
    return;
  }
  const AttentionShape& attention = model.hparams.attention;
  const KeyFrame frame{attention.rope_pairs, model.weights.inverse_frequency, attention.head_dim,
                       static_cast<std::int32_t>(attention.kv_dim())};
  compact = std::make_unique<CompactCache>(*backend, layout, *sidecar, compact_settings(options), frame,
                                           options.n_ctx, options.n_sequences);
  model.plan.groups.clear();
  for (std::int32_t g = 0; g < compact->archive().n_groups(); ++g) {
    model.plan.groups.push_back(compact->archive().layers(g));
  }
}

void Engine::Impl::check_room(std::span<const Feed> feeds) const {
  for (const Feed& feed : feeds) {
    check_ids(feed.tokens, info.n_vocab);
    const auto is_same = [&](const Feed& other) { return other.session == feed.session; };
    if (std::count_if(feeds.begin(), feeds.end(), is_same) > 1) {
      throw Error(ErrorKind::usage, "feeds", "a session appears twice in one batch");
    }
    const auto n_after =
        static_cast<std::int64_t>(feed.session->n_past()) + static_cast<std::int64_t>(feed.tokens.size());
    if (n_after <= options.n_ctx) continue;
    throw Error(
        ErrorKind::memory, "context",
        std::to_string(n_after) + " tokens are needed, the context holds " + std::to_string(options.n_ctx),
        "use a larger context (-c)");
  }
}

void Engine::Impl::reserve_logits(std::int64_t n_rows) {
  const auto bytes = static_cast<std::size_t>(n_rows * info.n_vocab) * sizeof(float);
  if (logits && logits->size() >= bytes) return;
  logits.reset();
  logits = backend->allocate(bytes, "logits");
}

void Engine::Impl::add_rows(const Feed& feed, std::span<const TokenId> tokens, bool last) {
  Session::Impl& session = *feed.session->impl_;
  const auto first_row = static_cast<std::int32_t>(builder.n_tokens());
  const std::int32_t position = feed.session->n_past();
  const auto n = static_cast<std::int32_t>(tokens.size());
  compact ? compact->advance(session.compact, n) : cache->grow(session.pages, n);
  if (compact && builder.kind == StepShape::Kind::text) {
    const auto first = static_cast<std::size_t>(position);
    if (tokens.data() == feed.tokens.data()) session.texts.push_back({first, first});
    session.texts.back().last = first + tokens.size();
  }
  session.tokens.insert(session.tokens.end(), tokens.begin(), tokens.end());

  builder.ids.insert(builder.ids.end(), tokens.begin(), tokens.end());
  for (std::int32_t i = 0; i < n; ++i) {
    builder.positions.push_back(position + i);
    const bool wanted = feed.want == Feed::Want::all || (feed.want == Feed::Want::last && last && i == n - 1);
    if (wanted) builder.logit_rows.push_back(first_row + i);
  }
  builder.sequences.push_back({first_row, n, position, session.pages.pages()});
  builder.compact.push_back(&session.compact);
}

std::int64_t Engine::Impl::run_builder(std::int64_t first_row) {
  if (builder.n_tokens() == 0) return 0;
  const Batch batch = builder.batch();
  float* out = logits ? logits->as<float>() + first_row * info.n_vocab : nullptr;
  const LayerRange all{0, model.hparams.n_layers};
  StepShape shape = builder.shape();
  shape.host_decides = compact != nullptr;
  backend->run_step(shape, [&] {
    if (compact) {
      CompactStep step(*compact, builder.compact, builder.sequences);
      if (options.kv_select == KvSelect::oracle) return run_oracle(step, batch, out);
      return forward(model, backend->ops(), step, batch, all, *activations, out);
    }
    DenseStep step(*cache, builder.sequences);
    forward(model, backend->ops(), step, batch, all, *activations, out);
  });
  const auto n_rows = static_cast<std::int64_t>(batch.logit_rows.size());
  builder.clear();
  return n_rows;
}

void Engine::Impl::run_oracle(CompactStep& step, const Batch& batch, float* out) {
  const std::int64_t dim = model.hparams.dim, n = batch.n_tokens();
  const auto before = backend->allocate(static_cast<std::size_t>(n * dim) * sizeof(float), "hidden states");
  std::vector<std::int32_t> rows(static_cast<std::size_t>(n));
  std::iota(rows.begin(), rows.end(), 0);
  Batch silent = batch;
  silent.logit_rows = {};
  for (const SelectRange& group : compact->select_groups()) {
    if (group.layers.first > 0) backend->ops().gather(before->as<float>(), activations->x, rows, dim);
    step.observe(true);
    forward(model, backend->ops(), step, silent, group.layers, *activations, nullptr);
    step.observe(false);
    if (group.layers.first > 0) backend->ops().gather(activations->x, before->as<float>(), rows, dim);
    forward(model, backend->ops(), step, batch, group.layers, *activations, out);
  }
}

KvUsage Engine::kv_usage(std::int32_t n_tokens) const {
  CompactBytes bytes;
  if (impl_->compact) bytes.archive_page = impl_->compact->archive().page_bytes();
  if (impl_->compact && impl_->compact->index()) bytes.index_page = impl_->compact->index()->page_bytes();
  return cga::kv_usage(impl_->options, impl_->model.hparams, bytes, n_tokens);
}

KvReuse Engine::kv_reuse() const {
  KvReuse reuse;
  if (!impl_->compact) return reuse;
  CompactCache& cache = *impl_->compact;
  const ReuseCounts& counts = cache.counts();
  reuse = {.choices = counts.choices,
           .chosen = counts.chosen,
           .eligible = counts.eligible,
           .needed = counts.needed,
           .decoded = counts.decoded};
  reuse.decoded_bytes = counts.decoded_bytes;
  reuse.index_bytes = counts.index_bytes;
  return reuse;
}

void Engine::reset_kv_reuse() {
  if (impl_->compact) impl_->compact->reset_counts();
}

std::int64_t Engine::decode_bytes(std::int32_t n_past) const {
  const Hparams& hparams = impl_->model.hparams;
  const std::int64_t token_bytes =
      kv_layout(hparams, impl_->options.kv).page_bytes() / page_tokens * hparams.n_layers;
  std::int64_t bytes = impl_->model.weights.bytes() + token_bytes * n_past;
  if (!impl_->compact) return bytes;
  CompactCache& cache = *impl_->compact;
  const CompactPlan& plan = cache.plan();
  const std::int32_t archived = plan.archived_pages(n_past);
  std::int32_t read = archived;  // pages of the archive
  if (cache.settings().selection != Selection::all) {
    read = std::min(read, div_up(cache.settings().budget_units(), page_units));
  }
  const std::int64_t resident_bytes =
      PageMemory::resident_page_bytes(cache.layout()) / resident_page_tokens * hparams.n_layers;
  bytes += (resident_bytes * read - token_bytes * archived) * page_tokens;
  if (cache.index() != nullptr && read < archived) {
    bytes += archived * cache.index()->page_bytes() + cache.index()->matrix_bytes();
  }
  if (cache.adapters() != nullptr && read < archived) bytes += cache.adapters()->matrix_bytes();
  const std::int32_t missing = read - div_up(plan.resident_units(), page_units);
  if (missing > 0) bytes += missing * cache.archive().page_bytes() + cache.archive().transform_bytes();
  return bytes;
}

double Engine::measure_bandwidth() const {
  // The whole KV address space and small models may sit in a cache; a fresh buffer beyond any cache does not.
  constexpr std::size_t bytes = std::size_t{256} << 20;
  const auto buffer = impl_->backend->allocate(bytes, "bandwidth probe");
  const std::vector<std::uint64_t> ones(bytes / 8, 1u);  // untouched pages would all be the zero page
  impl_->backend->write(buffer->data(), ones.data(), bytes);
  double best = 1e30;
  for (int i = 0; i < 5; ++i) best = std::min(best, impl_->backend->time_read(buffer->data(), bytes));
  return static_cast<double>(bytes) / best;
}

}  // namespace cga

// `cga perplexity`: how well a model predicts a text, and how far it is from a base model on every token.
// Conventions and line formats are llama-perplexity's. Results go to standard output as they arrive.
#include <spdlog/fmt/fmt.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/cga/commands/perplexity/base.h"
#include "tools/cga/commands/perplexity/hellaswag.h"
#include "tools/cga/commands/perplexity/report.h"
#include "tools/cga/commands/perplexity/run.h"
#include "tools/cga/commands/perplexity/scorers.h"
#include "tools/cga/commands/perplexity/token_ids.h"
#include "tools/cga/options.h"
#include "tools/cga/stats.h"

namespace cga::cli {
namespace {

struct PerplexityOptions {
  ModelOptions model;
  ChunkOptions chunks;
  std::filesystem::path text;
  std::filesystem::path ids;
  std::filesystem::path save_base;
  std::filesystem::path compare_with;
  bool compare_with_full = false;
  bool hellaswag = false;
  std::int32_t hellaswag_tasks = 400;
  std::filesystem::path save_scores;
  bool stats = false;
};

/// The engine for chunks of one length: as many sequences as go through it together. The last token of a
/// chunk is only predicted.
Engine open_for_chunks(const PerplexityOptions& options, std::int32_t length, Context& context) {
  ModelOptions model = options.model;
  model.engine.n_ctx = length - 1;
  model.engine.n_sequences = chunks_at_once(length, model.engine.n_ubatch);
  Engine engine = open_engine(model, context);
  if (length - 1 > engine.info().n_ctx_train) {
    context.log.warn("chunks of {} tokens, but the model was trained on at most {}", format_count(length),
                     format_count(engine.info().n_ctx_train));
  }
  return engine;
}

/// Full attention to compare `tested` with. Where that is a plain cache of bf16 itself, f32 shows what its
/// rounding costs, which is the floor of all comparisons with bf16.
Engine open_full(const Engine& tested, Context& context) {
  const EngineOptions& same = tested.options();
  ModelOptions full;  // without the settings of other caches
  full.engine.model = same.model;
  full.engine.device = same.device;
  full.engine.n_ctx = same.n_ctx;
  full.engine.n_sequences = same.n_sequences;
  full.engine.n_ubatch = same.n_ubatch;
  full.engine.n_threads = same.n_threads;
  full.engine.kv = same.kv == KvType::bf16 ? KvType::f32 : KvType::bf16;
  return open_engine(full, context);
}

/// What is fed: the tokens of a text, and BOS if each chunk begins with it (-1: if not).
struct Input {
  std::vector<TokenId> tokens;
  TokenId bos = -1;
};

TokenId wanted_bos(const Tokenizer& tokenizer) {
  return tokenizer.adds_bos() ? tokenizer.bos() : -1;
}

Input read_ids(const std::filesystem::path& path, const Engine& engine, Context& context) {
  TokenIds text = read_token_ids(path);
  require_vocabulary(text, engine.info().n_vocab, path.string());
  context.log.debug("{}: {} ids of {}, made by {} from {}", path.string(),
                    format_count(static_cast<std::int64_t>(text.ids.size())), text.name, text.tokenizer,
                    text.source);
  return {std::move(text.ids), text.bos ? wanted_bos(engine.tokenizer()) : -1};
}

Input encode_text(const std::filesystem::path& path, const Tokenizer& tokenizer, Context& context) {
  const Stopwatch watch;
  Input input{tokenizer.encode(read_text_file(path), /*parse_special=*/false), wanted_bos(tokenizer)};
  context.log.debug("{}: {} tokens in {:.2f} s", path.string(),
                    format_count(static_cast<std::int64_t>(input.tokens.size())), watch.seconds());
  return input;
}

/// The text that the options name; no tokens if none.
Input read_input(const PerplexityOptions& options, const Engine& engine, Context& context) {
  Input input;
  if (!options.ids.empty()) input = read_ids(options.ids, engine, context);
  if (!options.text.empty()) input = encode_text(options.text, engine.tokenizer(), context);
  if (input.bos >= 0) input.tokens.insert(input.tokens.begin(), input.bos);
  return input;
}

/// Ids are chosen to be run as they are: one chunk of them is enough. A text of less than two chunks is
/// refused, as llama.cpp does.
ChunkOptions chunk_options(const PerplexityOptions& options) {
  ChunkOptions chunks = options.chunks;
  if (!options.ids.empty()) chunks.min_chunks = 1;
  return chunks;
}

/// Runs all chunks, telling after the first pass how long the rest will take.
ChunkRun run_with_progress(const Engines& engines, const ChunkPlan& plan, const Input& input, Scorer& scorer,
                           Context& context) {
  const Interrupts::Polling polling(context.interrupts);
  const Stopwatch watch;
  const bool on_terminal = context.out.is_terminal();  // the running line is progress enough there
  std::optional<Progress> progress;
  if (!on_terminal) progress.emplace("chunks", plan.n_chunks);
  bool told = false;
  return run_chunks(engines, plan, input.tokens, input.bos, scorer, [&](std::int32_t done) {
    if (!told && done > 0) {
      told = true;
      context.log.info("{}", time_estimate(watch.seconds(), static_cast<double>(plan.n_chunks) / done));
    }
    if (progress) progress->update(done);
    return context.interrupts.pending() == 0;
  });
}

void announce(const std::string& what, const ChunkPlan& plan, Context& context) {
  context.log.info("{}{} chunk{} of {} tokens, {} scored in each", what, format_count(plan.n_chunks),
                   plan.n_chunks == 1 ? "" : "s", format_count(plan.length), format_count(plan.n_scored()));
}

/// The closing line, and the exit code of a run that may have been stopped.
int finish(const PerplexityOptions& options, const Engine& engine, const ChunkRun& run, Context& context) {
  context.log.info("{}", stats_line(engine, run.stats));
  if (const std::string reuse = reuse_text(engine); options.stats && !reuse.empty()) {
    context.log.info("{}", reuse);
  }
  if (run.complete) return 0;
  context.log.warn("stopped; the estimate covers the chunks so far");
  return Interrupts::exit_code(context.interrupts.pending());
}

void require_text(const PerplexityOptions& options) {
  if (!options.text.empty() || !options.ids.empty()) return;
  throw Error(ErrorKind::usage, "-f", "no text was given", "name a file with -f or --ids");
}

int estimate(const PerplexityOptions& options, Context& context) {
  require_text(options);
  Engine engine = open_for_chunks(options, chunk_length(options.chunks), context);
  const Input input = read_input(options, engine, context);
  const ChunkPlan plan = plan_chunks(chunk_options(options), static_cast<std::int64_t>(input.tokens.size()));
  std::unique_ptr<BaseWriter> base;
  if (!options.save_base.empty()) {
    base = std::make_unique<BaseWriter>(options.save_base, plan, engine.info().n_vocab, engine.info().name,
                                        input.tokens);
  }
  ThreadPool threads(engine.options().n_threads);
  LikelihoodScorer scorer(threads, context.out, base.get());
  announce("", plan, context);
  const ChunkRun run = run_with_progress({engine}, plan, input, scorer, context);
  if (scorer.nll().count() > 0) context.out.write("\n" + final_estimate(scorer.nll()));
  if (base && run.complete) base->commit();
  return finish(options, engine, run, context);
}

/// Runs the chunks and prints how they compare.
int compare(const PerplexityOptions& options, const Engines& engines, const ChunkPlan& plan,
            const Input& input, ComparingScorer& scorer, Context& context) {
  const ChunkRun run = run_with_progress(engines, plan, input, scorer, context);
  if (scorer.totals().count() > 0) context.out.write(comparison_summary(scorer.totals()));
  return finish(options, engines.tested, run, context);
}

int compare_with_file(const PerplexityOptions& options, Context& context) {
  const BaseFile base(options.compare_with);
  const ChunkPlan& plan = base.plan();
  Engine engine = open_for_chunks(options, plan.length, context);
  Input input = read_input(options, engine, context);
  base.require_match(engine.info().n_vocab, input.tokens);
  if (input.tokens.empty()) {  // the file has its own, which began with BOS if the chunks did
    const TokenId bos = wanted_bos(engine.tokenizer());
    input = {base.tokens(), base.tokens().front() == bos ? bos : -1};
  }
  ThreadPool threads(engine.options().n_threads);
  FileScorer scorer(threads, context.out, base);
  announce("comparing with " + base.name() + ": ", plan, context);
  return compare(options, {engine}, plan, input, scorer, context);
}

int compare_with_full(const PerplexityOptions& options, Context& context) {
  require_text(options);
  Engine engine = open_for_chunks(options, chunk_length(options.chunks), context);
  const Input input = read_input(options, engine, context);
  const ChunkPlan plan = plan_chunks(chunk_options(options), static_cast<std::int64_t>(input.tokens.size()));
  Engine full = open_full(engine, context);
  ThreadPool threads(engine.options().n_threads);
  FullScorer scorer(threads, context.out);
  announce(fmt::format("--kv {} beside full attention in {}: ", kv_name(engine.options().kv),
                       kv_name(full.options().kv)),
           plan, context);
  return compare(options, {engine, &full}, plan, input, scorer, context);
}

int score_hellaswag(const PerplexityOptions& options, Context& context) {
  require_text(options);
  return run_hellaswag({options.model, options.text, options.hellaswag_tasks, options.save_scores}, context);
}

/// @param others  what means nothing to tasks
void add_hellaswag_options(CLI::App& command, PerplexityOptions& options,
                           const std::vector<CLI::Option*>& others) {
  CLI::Option* hellaswag = command.add_flag("--hellaswag", options.hellaswag,
                                            "Score HellaSwag tasks: the text has six lines a task");
  for (CLI::Option* other : others) hellaswag->excludes(other);
  command.add_option("--hellaswag-tasks", options.hellaswag_tasks, "Tasks to draw from the file")
      ->check(whole_number(1))
      ->type_name("N")
      ->needs(hellaswag);
  command
      .add_option("--save-scores", options.save_scores, "Keep the scores of each task, to compare two runs")
      ->type_name("FILE")
      ->needs(hellaswag);
}

}  // namespace

void add_perplexity(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("perplexity", "How well a model predicts a text; divergence from a base");
  const auto options = std::make_shared<PerplexityOptions>();
  options->model.engine.n_ctx = options->chunks.n_ctx;
  add_model_options(*command, options->model);
  CLI::Option* text = command->add_option("-f,--file", options->text, "The text")->type_name("FILE");
  CLI::Option* ids =
      command->add_option("--ids", options->ids, "The text as token ids, from tools/adapt/make_ids.py")
          ->type_name("FILE")
          ->excludes(text);
  CLI::Option* chunks =
      command->add_option("--chunks", options->chunks.max_chunks, "Chunks to score; -1: all of the text")
          ->check(whole_number(-1))
          ->type_name("N");
  CLI::Option* from = command
                          ->add_option("--score-from", options->chunks.score_from,
                                       "First row of a chunk that counts; default: half")
                          ->check(whole_number(0))
                          ->type_name("N");
  CLI::Option* stride = command
                            ->add_option("--ppl-stride", options->chunks.stride,
                                         "Overlapping chunks this far apart; 0: none overlap")
                            ->check(whole_number(0))
                            ->type_name("N");
  CLI::Option* save =
      command->add_option("--save-base", options->save_base, "Keep the log-probabilities for --kl-divergence")
          ->type_name("FILE");
  CLI::Option* with =
      command
          ->add_option("--kl-divergence", options->compare_with, "Compare with a file that --save-base wrote")
          ->type_name("FILE")
          ->excludes(save)  // and the file says which rows are scored
          ->excludes(chunks)
          ->excludes(from)
          ->excludes(stride);
  command->add_flag("--stats", options->stats,
                    "Tell at the end what was chosen from the archive and what was decoded");
  CLI::Option* full = command
                          ->add_flag("--kl-full", options->compare_with_full,
                                     "Compare with full attention (--kv bf16; f32 for bf16 itself), run "
                                     "beside from weights of its own")
                          ->excludes(save)
                          ->excludes(with);
  add_hellaswag_options(*command, *options, {ids, chunks, from, stride, save, with, full});
  context.on_run(command, [options, &context] {
    options->chunks.n_ctx = options->model.engine.n_ctx;
    if (options->hellaswag) return score_hellaswag(*options, context);
    if (options->compare_with_full) return compare_with_full(*options, context);
    if (!options->compare_with.empty()) return compare_with_file(*options, context);
    return estimate(*options, context);
  });
}

}  // namespace cga::cli

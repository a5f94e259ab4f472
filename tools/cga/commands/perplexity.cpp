// `cga perplexity`: how well a model predicts a text, and how far it is from a base model on every token.
// Conventions and line formats are llama-perplexity's. Results go to standard output as they arrive.
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/cga/commands/perplexity/base.h"
#include "tools/cga/commands/perplexity/report.h"
#include "tools/cga/commands/perplexity/run.h"
#include "tools/cga/commands/perplexity/scorers.h"
#include "tools/cga/options.h"
#include "tools/cga/stats.h"

namespace cga::cli {
namespace {

struct PerplexityOptions {
  ModelOptions model;
  ChunkOptions chunks;
  std::filesystem::path text;
  std::filesystem::path save_base;
  std::filesystem::path compare_with;
};

/// The engine for chunks of one length: as many sequences as go through it together.
Engine open_for_chunks(const PerplexityOptions& options, std::int32_t length, Context& context) {
  ModelOptions model = options.model;
  model.engine.n_ctx = length;
  model.engine.n_sequences = chunks_at_once(length, model.engine.n_ubatch);
  Engine engine = open_engine(model, context);
  if (length > engine.info().n_ctx_train) {
    context.log.warn("chunks of {} tokens, but the model was trained on at most {}", format_count(length),
                     format_count(engine.info().n_ctx_train));
  }
  return engine;
}

TokenId wanted_bos(const Tokenizer& tokenizer) {
  return tokenizer.adds_bos() ? tokenizer.bos() : -1;
}

std::vector<TokenId> read_tokens(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                 Context& context) {
  const Stopwatch watch;
  std::vector<TokenId> tokens = tokenizer.encode(read_text_file(path), /*parse_special=*/false);
  if (const TokenId bos = wanted_bos(tokenizer); bos >= 0) tokens.insert(tokens.begin(), bos);
  context.log.debug("{}: {} tokens in {:.2f} s", path.string(),
                    format_count(static_cast<std::int64_t>(tokens.size())), watch.seconds());
  return tokens;
}

/// Runs all chunks, telling after the first pass how long the rest will take.
ChunkRun run_with_progress(Engine& engine, const ChunkPlan& plan, const std::vector<TokenId>& tokens,
                           Scorer& scorer, Context& context) {
  const Interrupts::Polling polling(context.interrupts);
  const Stopwatch watch;
  const bool on_terminal = context.out.is_terminal();  // the running line is progress enough there
  std::optional<Progress> progress;
  if (!on_terminal) progress.emplace("chunks", plan.n_chunks);
  bool told = false;
  return run_chunks(engine, plan, tokens, wanted_bos(engine.tokenizer()), scorer, [&](std::int32_t done) {
    if (!told && done > 0) {
      told = true;
      context.log.info("{}", time_estimate(watch.seconds(), static_cast<double>(plan.n_chunks) / done));
    }
    if (progress) progress->update(done);
    return context.interrupts.pending() == 0;
  });
}

/// The closing line, and the exit code of a run that may have been stopped.
int finish(const Engine& engine, const ChunkRun& run, Context& context) {
  context.log.info("{}", stats_line(engine, run.stats));
  if (run.complete) return 0;
  context.log.warn("stopped; the estimate covers the chunks so far");
  return Interrupts::exit_code(context.interrupts.pending());
}

int estimate(const PerplexityOptions& options, Context& context) {
  if (options.text.empty()) throw Error(ErrorKind::usage, "-f", "no text was given", "name a file with -f");
  Engine engine = open_for_chunks(options, chunk_length(options.chunks), context);
  const std::vector<TokenId> tokens = read_tokens(options.text, engine.tokenizer(), context);
  const ChunkPlan plan = plan_chunks(options.chunks, static_cast<std::int64_t>(tokens.size()));
  std::unique_ptr<BaseWriter> base;
  if (!options.save_base.empty()) {
    base = std::make_unique<BaseWriter>(options.save_base, plan, engine.info().n_vocab, engine.info().name,
                                        tokens);
  }
  ThreadPool threads(engine.options().n_threads);
  LikelihoodScorer scorer(threads, context.out, base.get());
  context.log.info("{} chunks of {} tokens, {} scored in each", format_count(plan.n_chunks),
                   format_count(plan.length), format_count(plan.n_scored()));
  const ChunkRun run = run_with_progress(engine, plan, tokens, scorer, context);
  if (scorer.nll().count() > 0) context.out.write("\n" + final_estimate(scorer.nll()));
  if (base && run.complete) base->commit();
  return finish(engine, run, context);
}

int compare(const PerplexityOptions& options, Context& context) {
  const BaseFile base(options.compare_with);
  const ChunkPlan& plan = base.plan();
  Engine engine = open_for_chunks(options, plan.length, context);
  std::vector<TokenId> tokens;
  if (!options.text.empty()) tokens = read_tokens(options.text, engine.tokenizer(), context);
  base.require_match(engine.info().n_vocab, tokens);
  ThreadPool threads(engine.options().n_threads);
  ComparingScorer scorer(threads, context.out, base);
  context.log.info("comparing with {}: {} chunks of {} tokens, {} scored in each", base.name(),
                   format_count(plan.n_chunks), format_count(plan.length), format_count(plan.n_scored()));
  const ChunkRun run = run_with_progress(engine, plan, base.tokens(), scorer, context);
  if (scorer.totals().count() > 0) context.out.write(comparison_summary(scorer.totals()));
  return finish(engine, run, context);
}

}  // namespace

void add_perplexity(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("perplexity", "How well a model predicts a text; divergence from a base");
  const auto options = std::make_shared<PerplexityOptions>();
  options->model.engine.n_ctx = options->chunks.n_ctx;
  add_model_options(*command, options->model);
  command->add_option("-f,--file", options->text, "The text")->type_name("FILE");
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
  command->add_option("--kl-divergence", options->compare_with, "Compare with a file that --save-base wrote")
      ->type_name("FILE")
      ->excludes(save)  // and the file says which rows are scored
      ->excludes(chunks)
      ->excludes(from)
      ->excludes(stride);
  context.on_run(command, [options, &context] {
    options->chunks.n_ctx = options->model.engine.n_ctx;
    return options->compare_with.empty() ? estimate(*options, context) : compare(*options, context);
  });
}

}  // namespace cga::cli

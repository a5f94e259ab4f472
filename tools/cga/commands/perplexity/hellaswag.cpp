// The task loop; see the header.
#include "tools/cga/commands/perplexity/hellaswag.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/atomic_file.h"
#include "base/thread_pool.h"
#include "tools/cga/commands/perplexity/hellaswag_tasks.h"
#include "tools/cga/commands/perplexity/report.h"
#include "tools/cga/commands/perplexity/rows.h"
#include "tools/cga/stats.h"

namespace cga::cli {
namespace {

using Scores = std::array<double, n_endings>;  // mean log-probabilities

/// Reads tasks as if the model had generated them: a prompt reads itself exactly, whatever the cache keeps.
class Reader {
 public:
  explicit Reader(Engine& engine) : engine_(engine), session_(engine), threads_(engine.options().n_threads) {}

  /// The common beginning is read once; the cache goes back to its end for each ending.
  Scores score(const EncodedTask& task) {
    session_.truncate(0);
    const std::span<const TokenId> common = std::span(task.tokens[0]).first(task.n_common);
    Scores sums{};
    const std::span<const float> row = run(common, Feed::Want::last);
    for (std::size_t i = 0; i < n_endings; ++i) {
      sums[i] = -negative_log_likelihood(row, task.tokens[i][task.n_common]);
    }
    session_.mark();
    for (std::size_t i = 0; i < n_endings; ++i) {
      const std::span<const TokenId> ending = std::span(task.tokens[i]).subspan(task.n_common);
      sums[i] = (sums[i] + continuation(ending)) / static_cast<double>(ending.size());
      session_.truncate(static_cast<std::int32_t>(task.n_common));
    }
    return sums;
  }

  const RunStats& stats() const { return stats_; }

 private:
  std::span<const float> run(std::span<const TokenId> tokens, Feed::Want want) {
    const Stopwatch watch;
    const Feed feed{&session_, tokens, want, Feed::Span::generated};
    const std::span<const float> logits = engine_.run({&feed, 1});
    stats_.prompt_seconds += watch.seconds();
    stats_.prompt_tokens += static_cast<std::int64_t>(tokens.size());
    stats_.n_past = session_.n_past();
    stats_.logits_hash = hash_bits(logits.last(static_cast<std::size_t>(engine_.info().n_vocab)));
    return logits;
  }

  /// Log-probability of the tokens after the first of an ending.
  double continuation(std::span<const TokenId> ending) {
    const std::size_t n = ending.size() - 1;
    if (n == 0) return 0.0;
    const std::span<const float> logits = run(ending.first(n), Feed::Want::all);
    const std::size_t n_vocab = logits.size() / n;
    std::vector<double> nll(n);
    threads_.parallel_for(static_cast<std::int64_t>(n), [&](std::int64_t task, int) {
      const auto i = static_cast<std::size_t>(task);
      nll[i] = negative_log_likelihood(logits.subspan(i * n_vocab, n_vocab), ending[i + 1]);
    });
    double sum = 0.0;  // in order: the same for any number of threads
    for (const double value : nll) sum -= value;
    return sum;
  }

  Engine& engine_;
  Session session_;
  ThreadPool threads_;
  RunStats stats_;
};

/// The index of the best; the first of equals.
std::size_t choose(const Scores& scores, std::size_t line) {
  for (const double score : scores) {
    if (!std::isfinite(score)) {
      throw Error(ErrorKind::bad_file, "model",
                  "the logits of the task at line " + std::to_string(line) + " are not finite",
                  "check the model file, or try --kv f32 and --device scalar");
    }
  }
  return static_cast<std::size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

/// The file of scores: all digits, so that equal lines are equal scores.
class ScoreFile {
 public:
  explicit ScoreFile(const std::filesystem::path& path) {
    if (path.empty()) return;
    file_ = std::make_unique<AtomicFile>(path);
    file_->write("line\tgold\tchosen\tscore0\tscore1\tscore2\tscore3\n");
  }
  void add(const HellaswagTask& task, std::size_t chosen, const Scores& scores) {
    if (!file_) return;
    file_->write(fmt::format("{}\t{}\t{}\t{:.17g}\t{:.17g}\t{:.17g}\t{:.17g}\n", task.line, task.gold, chosen,
                             scores[0], scores[1], scores[2], scores[3]));
  }
  void commit() {
    if (file_) file_->commit();
  }

 private:
  std::unique_ptr<AtomicFile> file_;
};

Engine open_for_tasks(const HellaswagOptions& options, Context& context) {
  ModelOptions model = options.model;
  model.engine.n_sequences = 1;
  model.engine.keeps_marked = true;
  return open_engine(model, context);
}

/// The tasks of the run, all checked before the first is run.
struct Tasks {
  std::vector<HellaswagTask> texts;
  std::vector<EncodedTask> encoded;
};

Tasks encode_drawn(std::vector<HellaswagTask> all, const HellaswagOptions& options, const Engine& engine) {
  Tasks tasks;
  for (const std::size_t i : draw_tasks(all.size(), static_cast<std::size_t>(options.n_tasks))) {
    tasks.encoded.push_back(
        encode_task(all[i], engine.tokenizer(), engine.options().n_ctx, options.tasks.string()));
    tasks.texts.push_back(std::move(all[i]));
  }
  return tasks;
}

}  // namespace

int run_hellaswag(const HellaswagOptions& options, Context& context) {
  std::vector<HellaswagTask> all = parse_hellaswag(read_text_file(options.tasks), options.tasks.string());
  Engine engine = open_for_tasks(options, context);
  const Tasks tasks = encode_drawn(std::move(all), options, engine);
  const auto n_tasks = static_cast<std::int64_t>(tasks.texts.size());
  ScoreFile file(options.save_scores);
  Reader reader(engine);
  const Interrupts::Polling polling(context.interrupts);
  std::optional<Progress> progress;
  if (!context.out.is_terminal()) progress.emplace("tasks", n_tasks);
  context.log.info("{} HellaSwag tasks, drawn in llama.cpp's order", format_count(n_tasks));
  context.out.write(accuracy_heading());
  std::int64_t done = 0, hits = 0;
  while (done < n_tasks && context.interrupts.pending() == 0) {
    const auto i = static_cast<std::size_t>(done);
    const HellaswagTask& task = tasks.texts[i];
    const Scores scores = reader.score(tasks.encoded[i]);
    const std::size_t chosen = choose(scores, task.line);
    file.add(task, chosen, scores);
    hits += chosen == task.gold ? 1 : 0;
    context.out.write(running_accuracy(hits, ++done));
    if (progress) progress->update(done);
  }
  if (done > 0) context.out.write(final_accuracy(hits, done));
  context.log.info("{}", stats_line(engine, reader.stats()));
  if (done == n_tasks) {
    file.commit();
    return 0;
  }
  context.log.warn("stopped; the accuracy covers the tasks so far");
  return Interrupts::exit_code(context.interrupts.pending());
}

}  // namespace cga::cli

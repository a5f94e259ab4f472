// Reading a prompt and continuing it, token by token.
#include "tools/cga/generation.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "cga/tokenizer.h"
#include "tools/cga/options.h"
#include "tools/cga/stop_filter.h"

namespace cga::cli {
namespace {

/// Runs tokens through the model. What comes after the last is left for Engine::sample().
void run(Engine& engine, Session& session, std::span<const TokenId> tokens, Feed::Span span) {
  const std::array<Feed, 1> feeds = {Feed{&session, tokens, Feed::Want::last, span}};
  engine.feed(feeds);
}

void check_fits(const Session& session, std::span<const TokenId> prompt) {
  if (prompt.empty())
    throw Error(ErrorKind::usage, "prompt", "it is empty", "give text with -p, -f or standard input");
  if (static_cast<std::int64_t>(prompt.size()) <= session.n_ctx()) return;
  throw Error(ErrorKind::usage, "prompt",
              "it has " + format_count(static_cast<std::int64_t>(prompt.size())) +
                  " tokens, the context holds " + format_count(session.n_ctx()),
              "use a larger context (-c) or a shorter prompt");
}

/// Cuts the session back to what it shares with the prompt. The last token is always read again: its logits
/// are what generation starts from.
std::size_t keep_common(Session& session, std::span<const TokenId> prompt) {
  const std::span<const TokenId> past = session.tokens();
  const auto ends = std::mismatch(prompt.begin(), prompt.end() - 1, past.begin(), past.end());
  const auto n_common = static_cast<std::size_t>(ends.first - prompt.begin());
  session.truncate(static_cast<std::int32_t>(n_common));
  return n_common;
}

/// Reads all of the prompt that is not in the session. Its last token is read like generated ones, so that an
/// answer asked for again begins as the first one did.
/// @return whether it was read to its end, not stopped by a signal
bool read_prompt(Engine& engine, Session& session, std::span<const TokenId> prompt,
                 const GenerationOptions& options, const Context& context, RunStats& stats) {
  const std::size_t n_reused = keep_common(session, prompt);
  stats.reused_tokens = static_cast<std::int64_t>(n_reused);
  const std::size_t last = prompt.size() - 1;
  read_text(engine, session, prompt.subspan(n_reused, last - n_reused), options, context, stats);
  if (context.interrupts.pending() != 0) return false;
  if (options.marks) session.mark();
  const Stopwatch watch;
  run(engine, session, prompt.subspan(last), Feed::Span::generated);
  ++stats.prompt_tokens;
  stats.prompt_seconds += watch.seconds();
  return true;
}

/// The token after the last one that was run. The time counts to the prompt or to decoding, whichever led
/// here: on a device it is here that one waits for it.
TokenId sample(Engine& engine, Sampler& sampler, double& seconds) {
  const Stopwatch watch;
  const TokenId id = engine.sample(0, sampler);
  seconds += watch.seconds();
  return id;
}

/// Runs one token through the model and samples the next.
TokenId decode(Engine& engine, Session& session, TokenId id, Sampler& sampler, RunStats& stats) {
  stats.decode_bytes += engine.decode_bytes(session.n_past());
  const Stopwatch watch;
  run(engine, session, std::span(&id, 1), Feed::Span::generated);
  stats.decode_seconds += watch.seconds();
  ++stats.decode_steps;
  return sample(engine, sampler, stats.decode_seconds);
}

/// Tokens on their way to the reader: whole code points, and nothing that belongs to a stop string.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, const std::vector<std::string>& stops, const TextSink& sink,
             std::string& text)
      : decoder_(tokenizer), filter_(stops), sink_(sink), text_(text) {}

  void push(TokenId id) { show(filter_.push(decoder_.push(id))); }
  void finish() {
    show(filter_.push(decoder_.finish()));
    show(filter_.finish());
  }
  bool stopped() const { return filter_.stopped(); }

 private:
  void show(const std::string& text) {
    if (text.empty()) return;
    text_ += text;
    sink_(text);
  }

  StreamDecoder decoder_;
  StopFilter filter_;
  const TextSink& sink_;
  std::string& text_;
};

}  // namespace

void add_generation_options(CLI::App& command, GenerationOptions& options) {
  command
      .add_option("-n,--predict,--n-predict", options.n_predict,
                  "Tokens to generate; -1: until the end or a full context")
      ->check(whole_number(-1))
      ->type_name("N")
      ->group("Generation")
      ->capture_default_str();
  command.add_option("-r,--reverse-prompt,--stop", options.stops, "End before this text; may be repeated")
      ->type_name("TEXT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group("Generation");
  command
      .add_flag("--stats", options.stats,
                "Tell at the end what was chosen from the archive and what was decoded")
      ->group("Generation");
}

void read_text(Engine& engine, Session& session, std::span<const TokenId> tokens,
               const GenerationOptions& options, const Context& context, RunStats& stats) {
  const Stopwatch watch;
  Progress progress("reading the prompt", static_cast<std::int64_t>(tokens.size()));
  // Under cga, text reads itself exactly if it is handed over whole.
  const bool is_whole = engine.options().kv == KvType::cga;
  const std::size_t piece = is_whole ? tokens.size() : static_cast<std::size_t>(options.n_batch);
  const std::int32_t before = session.n_past();
  while (!tokens.empty() && context.interrupts.pending() == 0) {
    const std::size_t n = std::min(tokens.size(), piece);
    const std::int64_t done_before = session.n_past() - before;
    const std::array<Feed, 1> feeds = {Feed{&session, tokens.first(n), Feed::Want::none, Feed::Span::prompt}};
    engine.run(feeds, [&](std::int64_t done) {
      progress.update(done_before + done);
      return context.interrupts.pending() == 0;
    });
    tokens = tokens.subspan(n);
    progress.update(session.n_past() - before);
  }
  stats.prompt_tokens += std::max(0, session.n_past() - before);
  stats.prompt_seconds += watch.seconds();
}

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::end:
      return "end";
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::context_full:
      return "context_full";
    case FinishReason::interrupted:
      return "interrupted";
  }
  return "";
}

Generated generate_text(Engine& engine, Session& session, std::span<const TokenId> prompt, Sampler& sampler,
                        const GenerationOptions& options, const TextSink& sink, const Context& context) {
  check_fits(session, prompt);
  Generated result;
  const bool is_read = read_prompt(engine, session, prompt, options, context, result.stats);
  for (const TokenId id : prompt) sampler.accept(id);

  TextStream stream(engine.tokenizer(), options.stops, sink, result.text);
  const auto n_generated = [&] { return static_cast<std::int64_t>(result.tokens.size()); };
  const auto next = [&]() -> std::optional<FinishReason> {  // one token further, or why not
    if (context.interrupts.pending() != 0) return FinishReason::interrupted;
    if (n_generated() == options.n_predict) return FinishReason::length;
    const bool is_first = n_generated() == 0;
    if (!is_first && session.n_past() == session.n_ctx()) return FinishReason::context_full;
    const TokenId id = is_first ? sample(engine, sampler, result.stats.prompt_seconds)
                                : decode(engine, session, result.tokens.back(), sampler, result.stats);
    if (engine.tokenizer().is_end(id)) return FinishReason::end;
    sampler.accept(id);
    result.tokens.push_back(id);
    stream.push(id);
    if (stream.stopped()) return FinishReason::stop;
    return std::nullopt;
  };
  std::optional<FinishReason> reason;
  while (!reason) reason = next();
  stream.finish();

  result.reason = *reason;
  result.stats.generated_tokens = n_generated();
  result.stats.n_past = session.n_past();
  if (is_read) result.stats.logits_hash = hash_bits(engine.logits(0));
  return result;
}

}  // namespace cga::cli

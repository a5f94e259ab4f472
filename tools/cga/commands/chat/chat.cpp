// How a turn is taken, and what happens when it does not fit.
#include "tools/cga/commands/chat/chat.h"

#include <algorithm>
#include <utility>

namespace cga::cli {

Chat::Chat(Engine& engine, PromptEncoder encoder, ChatSettings settings, Context& context)
    : engine_(engine),
      encoder_(std::move(encoder)),
      settings_(std::move(settings)),
      context_(context),
      session_(engine) {}

void Chat::ask(std::string text) {
  turns_.push_back({{"user", std::move(text)}, {}});
  if (!answer()) turns_.pop_back();
}

void Chat::regenerate() {
  if (turns_.empty()) return context_.log.warn("there is nothing to answer again");
  Turn previous = std::move(turns_.back());
  turns_.pop_back();
  if (!answer()) turns_.push_back(std::move(previous));
}

void Chat::clear() {
  turns_.clear();
  session_.truncate(0);
}

void Chat::set_system(std::string text) {
  system_ = std::move(text);
}

std::vector<TokenId> Chat::encode() const {
  std::vector<Turn> all;
  if (!system_.empty()) all.push_back({{"system", system_}, {}});
  all.insert(all.end(), turns_.begin(), turns_.end());
  return encoder_.encode(all);
}

/// Answers the last turn. @return false if that was not possible and the turns are as before
bool Chat::answer() {
  std::vector<TokenId> prompt;
  try {
    prompt = encode();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::usage) throw;
    refused_ = true;
    context_.log.error("{}", error.what());
    return false;
  }
  if (settings_.drop_oldest) prompt = make_room(std::move(prompt));
  if (prompt.size() >= static_cast<std::size_t>(session_.n_ctx())) {
    refused_ = true;
    context_.log.warn(
        "the context is full: this turn needs {} tokens and room for an answer, the context holds {}; "
        "/clear starts anew, -c makes it larger, --drop-oldest forgets old turns",
        format_count(static_cast<std::int64_t>(prompt.size())), format_count(session_.n_ctx()));
    return false;
  }
  SamplingOptions sampling = settings_.sampling;
  sampling.seed += n_answers_++;  // an answer asked for again is drawn anew
  Sampler sampler(sampling);
  const TextSink sink = [this](std::string_view text) { context_.out.write(text); };
  Generated generated =
      generate_text(engine_, session_, prompt, sampler, settings_.generation, sink, context_);
  context_.out.write("\n");
  total_.add(last_ = generated.stats);

  if (generated.reason == FinishReason::interrupted) {
    context_.log.info("stopped");
    if (generated.tokens.empty()) return false;
  }
  if (generated.reason == FinishReason::context_full) {
    context_.log.warn("the context is full ({} tokens) and the answer ends here",
                      format_count(session_.n_ctx()));
  }
  keep(std::move(generated));
  return true;
}

/// An answer cut at a stop string was sampled further than it was shown: its tokens are not its text.
void Chat::keep(Generated generated) {
  if (generated.reason == FinishReason::stop) generated.tokens.clear();
  turns_.push_back({{"assistant", std::move(generated.text)}, std::move(generated.tokens)});
}

/// Forgets the oldest turns until a quarter of the context, or all that may be generated, is free.
std::vector<TokenId> Chat::make_room(std::vector<TokenId> prompt) {
  const std::int32_t quarter = std::max(session_.n_ctx() / 4, 1);
  const std::int32_t n_predict = settings_.generation.n_predict;
  const std::int64_t room = n_predict < 0 ? quarter : std::min(n_predict, quarter);
  std::int64_t n_dropped = 0;
  while (static_cast<std::int64_t>(prompt.size()) + room > session_.n_ctx() && drop_oldest_turn()) {
    ++n_dropped;
    prompt = encode();
  }
  if (n_dropped > 0) context_.log.info("the context was full: forgot the {} oldest exchanges", n_dropped);
  return prompt;
}

/// A question with its answer. The last question stays.
bool Chat::drop_oldest_turn() {
  if (turns_.size() < 3) return false;
  turns_.erase(turns_.begin(), turns_.begin() + 2);
  return true;
}

void Chat::log_stats() const {
  if (n_answers_ == 0) return context_.log.info("nothing was answered yet");
  context_.log.info("{}", stats_line(engine_, last_));
  context_.log.info("context: {} of {} tokens", format_count(session_.n_past()),
                    format_count(session_.n_ctx()));
}

void Chat::log_totals() const {
  if (n_answers_ > 0) context_.log.info("{}", stats_line(engine_, total_));
}

}  // namespace cga::cli

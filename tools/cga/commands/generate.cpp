// `cga generate`: one answer, or one plain completion. Standard output carries the text and nothing else.
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "cga/engine.h"
#include "tools/cga/context.h"
#include "tools/cga/generation.h"
#include "tools/cga/options.h"
#include "tools/cga/prompt_encoder.h"
#include "tools/cga/stats.h"

namespace cga::cli {
namespace {

struct GenerateOptions {
  ModelOptions model;
  SamplingFlags sampling;
  GenerationOptions generation;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::string system;
  std::string template_file;
  std::string output_file;
  std::string ask_file;
  bool raw = false;
  bool json = false;
};

std::string read_standard_input() {
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  if (std::ferror(stdin) != 0) {
    throw Error(ErrorKind::io, "standard input", std::strerror(errno), "give -p TEXT or -f FILE");
  }
  return text;
}

/// From -p, -f or standard input. Files end with a line break that is not part of the prompt.
std::string read_prompt_text(const GenerateOptions& options) {
  if (options.prompt) return *options.prompt;
  std::string text;
  if (!options.prompt_file.empty() && options.prompt_file != "-") {
    text = read_text_file(options.prompt_file);
  } else if (options.prompt_file.empty() && is_terminal(STDIN_FILENO)) {
    throw Error(ErrorKind::usage, "prompt", "there is none",
                "give -p TEXT, -f FILE, or text on standard input");
  } else {
    text = read_standard_input();
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

/// Prompts as tokens: of one text, with the model's chat template unless raw text is wanted.
class Encoder {
 public:
  Encoder(const GenerateOptions& options, const Engine& engine, Context& context)
      : tokenizer_(engine.tokenizer()), system_(options.system) {
    if (options.raw) return;
    std::optional<ChatTemplate> chat_template = load_chat_template(engine, options.template_file);
    if (chat_template) {
      encoder_.emplace(tokenizer_, std::move(*chat_template));
    } else {
      context.log.info("the model has no chat template: completing the text as it is");
    }
  }

  std::vector<TokenId> encode(const std::string& text) const {
    if (!encoder_) return encode_raw(tokenizer_, text);
    std::vector<Turn> turns;
    if (!system_.empty()) turns.push_back({{"system", system_}, {}});
    turns.push_back({{"user", text}, {}});
    return encoder_->encode(turns);
  }

 private:
  const Tokenizer& tokenizer_;
  std::string system_;
  std::optional<PromptEncoder> encoder_;
};

/// What the model is to answer. Questions about one text share the tokens they begin with.
struct Prompt {
  std::optional<std::string> question;  // from --ask
  std::vector<TokenId> tokens;
};

std::vector<std::string> read_questions(const std::string& path) {
  std::vector<std::string> questions;
  std::istringstream lines(read_text_file(path));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) questions.push_back(line);
  }
  if (questions.empty()) throw Error(ErrorKind::usage, path, "no questions in it", "write one a line");
  return questions;
}

std::vector<Prompt> encode_prompts(const GenerateOptions& options, const Engine& engine, Context& context) {
  const std::string text = read_prompt_text(options);
  if (text.empty()) throw Error(ErrorKind::usage, "prompt", "it is empty", "give some text");
  const Encoder encoder(options, engine, context);
  if (options.ask_file.empty()) return {{std::nullopt, encoder.encode(text)}};
  std::vector<Prompt> prompts;
  for (const std::string& question : read_questions(options.ask_file)) {
    prompts.push_back({question, encoder.encode(text + "\n\n" + question)});
  }
  return prompts;
}

/// What all prompts begin with, short of the last token of any.
std::span<const TokenId> common_beginning(const std::vector<Prompt>& prompts) {
  std::size_t n = prompts[0].tokens.size() - 1;
  for (const Prompt& prompt : prompts) {
    const std::vector<TokenId>& tokens = prompt.tokens;
    const auto end = tokens.begin() + static_cast<std::ptrdiff_t>(std::min(n, tokens.size() - 1));
    n = static_cast<std::size_t>(std::mismatch(tokens.begin(), end, prompts[0].tokens.begin()).first -
                                 tokens.begin());
  }
  return std::span(prompts[0].tokens).first(n);
}

std::string as_json(const Prompt& prompt, const Generated& generated, const SamplingOptions& sampling) {
  const RunStats& stats = generated.stats;
  nlohmann::ordered_json object;
  if (prompt.question) object["question"] = *prompt.question;
  object.update({
      {"text", generated.text},
      {"finish_reason", name_of(generated.reason)},
      {"prompt_tokens", stats.prompt_tokens},
      {"generated_tokens", stats.generated_tokens},
      {"seed", sampling.seed},
      {"prompt_tokens_per_second", stats.prompt_rate()},
      {"generated_tokens_per_second", stats.decode_rate()},
      {"decode_bytes_per_second", stats.decode_bandwidth()},
      {"logits_hash", stats.logits_hash ? fmt::format("{:016x}", *stats.logits_hash) : ""},
  });
  // A stop string may cut a character in two.
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

/// Where answers go: streamed as they come, or all at once when the last is complete. An interrupted run
/// leaves no file.
class Answers {
 public:
  Answers(const GenerateOptions& options, const SamplingOptions& sampling, Context& context)
      : options_(options), sampling_(sampling), context_(context) {}

  void begin(const Prompt& prompt) {
    if (prompt.question && !options_.json) show("> " + *prompt.question + "\n");
  }
  void show(std::string_view text) {
    if (options_.json) return;
    if (options_.output_file.empty()) return context_.out.write(text);
    all_ += text;
  }
  void end(const Prompt& prompt, const Generated& generated) {
    if (options_.json) {
      const std::string object = as_json(prompt, generated, sampling_);
      options_.output_file.empty() ? context_.out.write(object) : void(all_ += object);
    } else if (prompt.question) {
      show(generated.text.ends_with('\n') ? "\n" : "\n\n");
    } else if (options_.output_file.empty() && context_.out.is_terminal() &&
               !generated.text.ends_with('\n')) {
      context_.out.write("\n");
    }
  }
  void commit() {
    if (options_.output_file.empty()) return;
    AtomicFile file(options_.output_file);
    file.write(all_);
    file.commit();
  }

 private:
  const GenerateOptions& options_;
  const SamplingOptions& sampling_;
  Context& context_;
  std::string all_;
};

/// Answers all prompts in one session. @return sums over the prompts
RunStats answer(Engine& engine, const std::vector<Prompt>& prompts, const GenerationOptions& generation,
                const SamplingOptions& sampling, Answers& answers, Context& context) {
  Session session(engine);
  RunStats total;
  if (prompts.size() > 1) {
    read_text(engine, session, common_beginning(prompts), generation, context, total);
    session.mark();
  }
  const TextSink sink = [&](std::string_view text) { answers.show(text); };
  for (const Prompt& prompt : prompts) {
    if (context.interrupts.pending() != 0) break;
    Sampler sampler(sampling);
    answers.begin(prompt);
    const Generated generated =
        generate_text(engine, session, prompt.tokens, sampler, generation, sink, context);
    answers.end(prompt, generated);
    total.add(generated.stats);
    if (generated.reason == FinishReason::context_full) {
      context.log.warn("the context is full ({} tokens) and the text ends here; use a larger one (-c)",
                       format_count(session.n_ctx()));
    }
  }
  return total;
}

int generate(const GenerateOptions& options, Context& context) {
  const SamplingOptions sampling = options.sampling.resolved();
  Sampler{sampling};  // before the model: a wrong option should not cost its loading
  if (!options.output_file.empty()) AtomicFile::require_writable(options.output_file);
  ModelOptions model = options.model;
  model.engine.keeps_marked = !options.ask_file.empty();
  Engine engine = open_engine(model, context);
  const std::vector<Prompt> prompts = encode_prompts(options, engine, context);

  GenerationOptions generation = options.generation;
  generation.n_batch = options.model.n_batch;
  generation.marks = false;  // where the questions begin is marked
  Answers answers(options, sampling, context);
  const Interrupts::Polling polling(context.interrupts);
  const RunStats stats = answer(engine, prompts, generation, sampling, answers, context);

  const std::string seed = sampling.temperature > 0 ? fmt::format("; seed {}", sampling.seed) : "";
  context.log.info("{}{}", stats_line(engine, stats), seed);
  if (const std::string reuse = reuse_text(engine); generation.stats && !reuse.empty())
    context.log.info("{}", reuse);
  if (const int signal = context.interrupts.pending(); signal != 0) return Interrupts::exit_code(signal);
  answers.commit();
  return 0;
}

}  // namespace

void add_generate(CLI::App& app, Context& context) {
  const auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Answer a prompt, or complete a text");
  CLI::Option* prompt = command->add_option("-p,--prompt", options->prompt, "The prompt")->type_name("TEXT");
  command->add_option("-f,--file", options->prompt_file, "Read the prompt from a file; -: standard input")
      ->type_name("FILE")
      ->excludes(prompt);
  CLI::Option* system =
      command->add_option("--system-prompt", options->system, "(-sys) System message of the chat turn");
  system->type_name("TEXT");
  CLI::Option* from_file = command->add_option("--chat-template-file", options->template_file,
                                               "Use this template, not the model's");
  from_file->type_name("FILE");
  command
      ->add_flag("--raw,--no-conversation", options->raw,
                 "(-no-cnv) Complete the text as it is, without a template")
      ->excludes(system)
      ->excludes(from_file);
  command->add_option("-o,--output", options->output_file, "Write the text to a file instead")
      ->type_name("FILE");
  command
      ->add_option(
          "--ask", options->ask_file,
          "Questions about the prompt, one a line: the prompt is read once, each is answered by itself")
      ->type_name("FILE");
  command->add_flag("--json", options->json, "Write an object with the text, why it ended, and the numbers");
  add_generation_options(*command, options->generation);
  add_sampling_options(*command, options->sampling);
  add_model_options(*command, options->model);
  context.on_run(command, [options, &context] { return generate(*options, context); });
}

}  // namespace cga::cli

// `cga generate`: one answer, or one plain completion. Standard output carries the text and nothing else.
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
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

std::vector<TokenId> encode_prompt(const GenerateOptions& options, const Engine& engine, Context& context) {
  const std::string text = read_prompt_text(options);
  if (text.empty()) throw Error(ErrorKind::usage, "prompt", "it is empty", "give some text");
  std::optional<ChatTemplate> chat_template;
  if (!options.raw) {
    chat_template = load_chat_template(engine, options.template_file);
    if (!chat_template) context.log.info("the model has no chat template: completing the text as it is");
  }
  if (!chat_template) return encode_raw(engine.tokenizer(), text);

  std::vector<Turn> turns;
  if (!options.system.empty()) turns.push_back({{"system", options.system}, {}});
  turns.push_back({{"user", text}, {}});
  return PromptEncoder(engine.tokenizer(), std::move(*chat_template)).encode(turns);
}

std::string as_json(const Generated& generated, const SamplingOptions& sampling) {
  const RunStats& stats = generated.stats;
  const nlohmann::ordered_json object = {
      {"text", generated.text},
      {"finish_reason", name_of(generated.reason)},
      {"prompt_tokens", stats.prompt_tokens},
      {"generated_tokens", stats.generated_tokens},
      {"seed", sampling.seed},
      {"prompt_tokens_per_second", stats.prompt_rate()},
      {"generated_tokens_per_second", stats.decode_rate()},
      {"decode_bytes_per_second", stats.decode_bandwidth()},
      {"logits_hash", stats.logits_hash ? fmt::format("{:016x}", *stats.logits_hash) : ""},
  };
  // A stop string may cut a character in two.
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

/// What is not streamed is written when the text is complete; an interrupted one leaves no file.
void write_result(const GenerateOptions& options, const Generated& generated, const SamplingOptions& sampling,
                  Context& context) {
  const std::string text = options.json ? as_json(generated, sampling) : generated.text;
  if (options.output_file.empty()) {
    if (options.json) context.out.write(text);
    if (!options.json && context.out.is_terminal() && !text.ends_with('\n')) context.out.write("\n");
  } else if (generated.reason != FinishReason::interrupted) {
    AtomicFile file(options.output_file);
    file.write(text);
    file.commit();
  }
}

int generate(const GenerateOptions& options, Context& context) {
  const SamplingOptions sampling = options.sampling.resolved();
  Sampler sampler(sampling);  // before the model: a wrong option should not cost its loading
  if (!options.output_file.empty()) AtomicFile::require_writable(options.output_file);
  Engine engine = open_engine(options.model, context);
  const std::vector<TokenId> prompt = encode_prompt(options, engine, context);
  Session session(engine);

  const bool streams = options.output_file.empty() && !options.json;
  const TextSink sink = [&](std::string_view text) {
    if (streams) context.out.write(text);
  };
  GenerationOptions generation = options.generation;
  generation.n_batch = options.model.n_batch;
  const Interrupts::Polling polling(context.interrupts);
  const Generated generated = generate_text(engine, session, prompt, sampler, generation, sink, context);
  write_result(options, generated, sampling, context);

  if (generated.reason == FinishReason::context_full) {
    context.log.warn("the context is full ({} tokens) and the text ends here; use a larger one (-c)",
                     format_count(session.n_ctx()));
  }
  const std::string seed = sampling.temperature > 0 ? fmt::format("; seed {}", sampling.seed) : "";
  context.log.info("{}{}", stats_line(engine, generated.stats), seed);
  return generated.reason == FinishReason::interrupted ? Interrupts::exit_code(context.interrupts.pending())
                                                       : 0;
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
  command->add_flag("--json", options->json, "Write an object with the text, why it ended, and the numbers");
  add_generation_options(*command, options->generation);
  add_sampling_options(*command, options->sampling);
  add_model_options(*command, options->model);
  context.on_run(command, [options, &context] { return generate(*options, context); });
}

}  // namespace cga::cli

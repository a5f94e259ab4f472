// `cga chat`: a conversation on the terminal, or scripted through a pipe. Answers go to standard output.
#include <algorithm>
#include <array>
#include <cctype>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "cga/engine.h"
#include "tools/cga/commands/chat/chat.h"
#include "tools/cga/context.h"
#include "tools/cga/generation.h"
#include "tools/cga/line_reader.h"
#include "tools/cga/options.h"
#include "tools/cga/prompt_encoder.h"

namespace cga::cli {
namespace {

struct ChatOptions {
  ModelOptions model;
  SamplingFlags sampling;
  GenerationOptions generation;
  std::string first_prompt;
  std::string system;
  std::string template_file;
  bool drop_oldest = false;
};

struct SlashCommand {
  std::string_view name, help;
  void (*run)(Chat& chat, std::string argument,
              Context& context);  // null: leaves the chat, or shows this list
};

constexpr std::array<SlashCommand, 6> kCommands = {{
    {"/regen", "answer the last question again",
     [](Chat& chat, std::string, Context&) { chat.regenerate(); }},
    {"/clear", "start anew, with the same system message",
     [](Chat& chat, std::string, Context&) { chat.clear(); }},
    {"/system", "show the system message, or replace it: /system TEXT",
     [](Chat& chat, std::string text, Context& context) {
       if (!text.empty()) return chat.set_system(std::move(text));
       context.log.info("system message: {}", chat.system().empty() ? "the template's own" : chat.system());
     }},
    {"/stats", "speed of the last answer, and how full the context is",
     [](Chat& chat, std::string, Context&) { chat.log_stats(); }},
    {"/help", "this list",
     [](Chat&, std::string, Context& context) {
       for (const SlashCommand& command : kCommands) context.log.info("{:8} {}", command.name, command.help);
       context.log.info(
           "A line that ends in \\ goes on in the next. Ctrl-C stops an answer, or leaves the chat.");
     }},
    {"/exit", "leave (also Ctrl-D)", nullptr},
}};

/// "/clear" and "/system be kind" are commands, known or not; "/etc/hosts" is something to talk about.
bool is_command(std::string_view line) {
  if (!line.starts_with('/')) return false;
  const std::string_view word = line.substr(1, line.find(' ') == line.npos ? line.npos : line.find(' ') - 1);
  return !word.empty() &&
         std::all_of(word.begin(), word.end(), [](unsigned char c) { return std::isalpha(c) != 0; });
}

/// @return false to leave
bool run_command(const std::string& line, Chat& chat, Context& context) {
  const std::size_t space = line.find(' ');
  const std::string name = line.substr(0, space);
  const std::size_t begin = line.find_first_not_of(' ', space);
  for (const SlashCommand& command : kCommands) {
    if (command.name != name) continue;
    if (command.run == nullptr) return false;
    command.run(chat, begin == std::string::npos ? "" : line.substr(begin), context);
    return true;
  }
  context.log.warn("there is no {}; /help lists what there is", name);
  return true;
}

/// A message, which may go over several lines.
std::optional<std::string> read_message(LineReader& reader) {
  std::optional<std::string> message = reader.read();
  while (message && message->ends_with('\\')) {
    message->back() = '\n';
    const std::optional<std::string> more = reader.read();
    if (!more) break;
    *message += *more;
  }
  return message;
}

/// Ctrl-C during an answer has stopped it and is forgotten. @return false if the chat must end
bool goes_on(Interrupts& interrupts) {
  if (interrupts.pending() == SIGINT) interrupts.clear();
  return interrupts.pending() == 0;
}

void converse(Chat& chat, LineReader& reader, std::string_view first_prompt, Context& context) {
  if (!first_prompt.empty()) chat.ask(std::string(first_prompt));
  while (goes_on(context.interrupts)) {
    const std::optional<std::string> message = read_message(reader);
    if (!message || context.interrupts.pending() != 0) return;
    if (is_command(*message)) {
      if (!run_command(*message, chat, context)) return;
    } else if (!message->empty()) {
      chat.ask(*message);
    }
  }
}

int run_chat(const ChatOptions& options, Context& context) {
  ChatSettings settings{options.sampling.resolved(), options.generation, options.drop_oldest};
  settings.generation.n_batch = options.model.n_batch;
  Sampler{settings.sampling};  // a wrong option is refused before the model is loaded
  ModelOptions model = options.model;
  model.engine.keeps_marked = true;  // /regen
  Engine engine = open_engine(model, context);
  std::optional<ChatTemplate> chat_template = load_chat_template(engine, options.template_file);
  if (!chat_template) {
    throw Error(ErrorKind::usage, "chat", "the model has no chat template",
                "give one with --chat-template-file, or use generate --raw");
  }
  Chat chat(engine, PromptEncoder(engine.tokenizer(), std::move(*chat_template)), std::move(settings),
            context);
  chat.set_system(options.system);

  const Interrupts::Polling polling(context.interrupts);
  const auto reader = make_line_reader(context.interrupts);
  if (reader->is_interactive()) context.log.info("{}; /help lists the commands", engine.info().name);
  converse(chat, *reader, options.first_prompt, context);
  chat.log_totals();
  if (const std::string reuse = reuse_text(engine); options.generation.stats && !reuse.empty()) {
    context.log.info("{}", reuse);
  }
  if (const int signal = context.interrupts.pending(); signal != 0) return Interrupts::exit_code(signal);
  // Whoever reads the answers of a script cannot see the warnings: the exit code tells that some are missing.
  return chat.refused() && !reader->is_interactive() ? static_cast<int>(ErrorKind::partial) : 0;
}

}  // namespace

void add_chat(CLI::App& app, Context& context) {
  const auto options = std::make_shared<ChatOptions>();
  CLI::App* command = app.add_subcommand("chat", "Talk with a model");
  command->add_option("-p,--prompt", options->first_prompt, "The first message")->type_name("TEXT");
  command->add_option("--system-prompt", options->system, "(-sys) System message")->type_name("TEXT");
  command->add_option("--chat-template-file", options->template_file, "Use this template, not the model's")
      ->type_name("FILE");
  command->add_flag("--drop-oldest", options->drop_oldest,
                    "When the context is full, forget the oldest turns instead of refusing new ones");
  add_generation_options(*command, options->generation);
  add_sampling_options(*command, options->sampling);
  add_model_options(*command, options->model);
  context.on_run(command, [options, &context] { return run_chat(*options, context); });
}

}  // namespace cga::cli

// ChatTemplate: the variables that Hugging Face gives a chat template, and what a render may cost.
#include <utility>

#include "cga/tokenizer.h"
#include "tokenizer/jinja_renderer.h"

namespace cga {
namespace {

/// Far above what any real template needs, and a second or two of a hostile one.
constexpr std::int64_t base_budget = std::int64_t{1} << 27;
constexpr std::int64_t budget_per_byte = 256;  // of the messages: each byte is copied a few times
constexpr std::int64_t budget_per_message = 1 << 16;

}  // namespace

struct ChatTemplate::Program {
  jinja::Block block;
  std::string origin, bos, eos;
};

ChatTemplate::ChatTemplate(std::string_view source, std::string_view origin, std::string_view bos,
                           std::string_view eos)
    : program_(std::make_unique<Program>(Program{jinja::parse_template(source, origin), std::string(origin),
                                                 std::string(bos), std::string(eos)})) {}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

std::string ChatTemplate::render(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
  using jinja::Value;
  std::int64_t budget = base_budget;
  jinja::List list;
  for (const ChatMessage& message : messages) {
    list.push_back(
        Value::dict({{"role", Value::text(message.role)}, {"content", Value::text(message.content)}}));
    budget += budget_per_message + budget_per_byte * list.back().weight();
  }
  const jinja::Dict variables{{"messages", Value::list(std::move(list))},
                              {"add_generation_prompt", Value::boolean(add_generation_prompt)},
                              {"bos_token", Value::text(program_->bos)},
                              {"eos_token", Value::text(program_->eos)},
                              {"tools", Value::none()},
                              {"documents", Value::none()}};
  return jinja::render(program_->block, variables, program_->origin, budget);
}

}  // namespace cga

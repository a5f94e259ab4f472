// Walks a parsed template with a conversation's variables, and writes the prompt.
#pragma once

#include <string>
#include <string_view>

#include "tokenizer/jinja_syntax.h"

namespace cga::jinja {

/// @param variables  what the template sees: messages, add_generation_prompt, …
/// @param budget     bytes and steps that may be spent, see Budget
/// @throws Error (usage) where the template refuses the conversation, (bad_file) where it cannot go on
std::string render(const Block& program, const Dict& variables, std::string_view origin, std::int64_t budget);

}  // namespace cga::jinja

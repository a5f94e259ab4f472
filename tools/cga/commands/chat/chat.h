// A conversation: its turns, the cache that holds them, and what can be done to them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cga/engine.h"
#include "cga/sampling.h"
#include "tools/cga/context.h"
#include "tools/cga/generation.h"
#include "tools/cga/prompt_encoder.h"
#include "tools/cga/stats.h"

namespace cga::cli {

struct ChatSettings {
  SamplingOptions sampling;
  GenerationOptions generation;
  bool drop_oldest = false;  // when the context is full, forget the oldest turns instead of refusing
};

/// Every answer reads only what the cache does not hold yet: the new message as a rule, more after an edit.
class Chat {
 public:
  Chat(Engine& engine, PromptEncoder encoder, ChatSettings settings, Context& context);

  void ask(std::string text);         ///< a user turn and its answer, streamed
  void regenerate();                  ///< another answer to the last question
  void clear();                       ///< forgets everything but the system message
  void set_system(std::string text);  ///< for the turns there are, too; empty: none
  const std::string& system() const { return system_; }

  void log_stats() const;                    ///< of the last answer, and how full the context is
  void log_totals() const;                   ///< of the whole conversation
  bool refused() const { return refused_; }  ///< a turn did not fit

 private:
  bool answer();
  std::vector<TokenId> encode() const;
  std::vector<TokenId> make_room(std::vector<TokenId> prompt);
  bool drop_oldest_turn();
  void keep(Generated generated);

  Engine& engine_;
  PromptEncoder encoder_;
  ChatSettings settings_;
  Context& context_;
  Session session_;
  std::string system_;
  std::vector<Turn> turns_;  // user and assistant in turn
  std::uint64_t n_answers_ = 0;
  RunStats last_, total_;
  bool refused_ = false;
};

}  // namespace cga::cli

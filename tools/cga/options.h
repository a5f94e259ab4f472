// The flags that several commands share. Names are llama.cpp's where it has one.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cga/engine.h"
#include "cga/sampling.h"
#include "tools/cga/context.h"

namespace cga::cli {

/// Which model, and how it is run.
struct ModelOptions {
  EngineOptions engine;
  std::int32_t n_batch = 256;  // prompt tokens between two looks at Ctrl-C and the progress line
};

/// -m -c -t -b -ub, and those of add_device_options
void add_model_options(CLI::App& command, ModelOptions& options);

/// --kv, --cga and the settings of cga
void add_kv_options(CLI::App& command, EngineOptions& engine);

/// "bf16", "cga", "q8_0": the names of benchmarks
std::string_view kv_name(KvType type);

/// "index", "oracle", "all"
std::string_view select_name(KvSelect select);

/// --device, and those of add_kv_options
void add_device_options(CLI::App& command, EngineOptions& engine);

/// Accepts whole numbers from `low` to `high`. Unlike CLI::Range it keeps its limits out of the help, and
/// refuses what does not fit the type instead of clamping it.
CLI::Validator whole_number(std::int64_t low, std::int64_t high = std::numeric_limits<std::int32_t>::max());

/// Accepts numbers above 0, up to `high`.
CLI::Validator positive_number(double high);

/// An option whose value is one of a few names.
template <class T>
CLI::Option* add_choice(CLI::App& command, const std::string& flags, T& value,
                        const std::map<std::string, T>& choices, const std::string& about) {
  const auto set = [&value, choices](const std::string& name) { value = choices.at(name); };
  return command.add_option_function<std::string>(flags, set, about)
      ->check(CLI::IsMember(choices).description(""));
}

/// The file `-m` names, or the default model if it was left out and is there.
/// @throws Error (usage) if neither
std::filesystem::path model_path(const EngineOptions& options, Context& context);

/// Loads the model the options name (or the random shape), saying at -v what it is and how long it took.
Engine open_engine(const ModelOptions& options, Context& context);

/// How tokens are chosen. Without -s every run draws another seed.
struct SamplingFlags {
  SamplingOptions sampling;
  std::int64_t seed = -1;  // -1: draw one

  SamplingOptions resolved() const;  ///< with the seed drawn if need be
};

/// --temp --top-k --top-p --min-p --repeat-penalty --presence-penalty --frequency-penalty --repeat-last-n -s
void add_sampling_options(CLI::App& command, SamplingFlags& flags);

/// llama.cpp's short options of several letters (`-ub`, `-sys`), which CLI11 would read as a bundle of
/// one-letter ones, replaced by their long names.
std::vector<std::string> expand_short_options(int argc, const char* const* argv);

/// A whole file as text. @throws Error (io)
std::string read_text_file(const std::filesystem::path& path);

}  // namespace cga::cli

// Shared flags: their names, ranges and defaults.
#include "tools/cga/options.h"

#include <spdlog/fmt/fmt.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

namespace cga::cli {
namespace {

constexpr std::string_view kDefaultModel = "SmolLM2-135M-Instruct.Q4_1.gguf";

std::filesystem::path models_folder() {
  if (const char* folder = std::getenv("CGA_MODELS"); folder != nullptr && *folder != '\0') return folder;
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home != nullptr ? home : ".") / ".cache/cga/models";
}

}  // namespace

void add_model_options(CLI::App& command, ModelOptions& options) {
  EngineOptions& engine = options.engine;
  command.add_option("-m,--model", engine.model, "GGUF file; default: the model quickstart fetched")
      ->type_name("FILE")
      ->group("Model");
  command.add_option("-c,--ctx-size", engine.n_ctx, "Context in tokens; 0: what the model was trained with")
      ->check(whole_number(0))
      ->type_name("N")
      ->group("Model")
      ->capture_default_str();
  command.add_option("-t,--threads", engine.n_threads, "Threads; 0: all cores")
      ->check(whole_number(0, 1024))
      ->type_name("N")
      ->group("Model")
      ->capture_default_str();
  command.add_option("-b,--batch-size", options.n_batch, "Prompt tokens handed to the engine at once")
      ->check(whole_number(1))
      ->type_name("N")
      ->group("Model")
      ->capture_default_str();
  command.add_option("--ubatch-size", engine.n_ubatch, "(-ub) Tokens that go through the layers at once")
      ->check(whole_number(1, 65536))
      ->type_name("N")
      ->group("Model")
      ->capture_default_str();
  add_device_options(command, engine);
}

void add_device_options(CLI::App& command, EngineOptions& engine) {
  // Names of devices that this build lacks pass: the engine answers those, with the exit code for devices.
  const auto known = [](const std::string& name) -> std::string {
    const bool cuda = name == "cuda" || (name.starts_with("cuda:") && name.size() > 5 &&
                                         name.find_first_not_of("0123456789", 5) == name.npos);
    if (cuda || name == "auto" || name == "cpu" || name == "scalar") return "";
    return "found '" + name + "', expected auto, cpu, cuda, cuda:N or scalar";
  };
  command
      .add_option("--device", engine.device,
                  "auto, cpu, cuda[:N], or scalar (slow: the reference for the others)")
      ->check(CLI::Validator(known, ""))
      ->type_name("NAME")
      ->group("Model")
      ->capture_default_str();
  command
      .add_option("--memory-limit", engine.memory_limit,
                  "Bytes of the GPU that may be used, e.g. 24GiB; default: all that are free")
      ->transform(CLI::AsSizeValue(false))
      ->type_name("SIZE")
      ->group("Model");
  command.add_flag("--exact", engine.exact, "Products in f32 on a GPU: slow, to compare backends")
      ->group("Model");
  add_kv_options(command, engine);
}

namespace {

void add_tokens(CLI::App& command, const std::string& name, std::int32_t& value, const std::string& about) {
  command.add_option(name, value, about)->check(whole_number(0))->type_name("N")->group("KV cache");
}

}  // namespace

std::string_view kv_name(KvType type) {
  switch (type) {
    case KvType::automatic:
      return "auto";
    case KvType::bf16:
      return "bf16";
    case KvType::f32:
      return "f32";
    case KvType::cga:
      return "cga";
    case KvType::q8:
      return "q8_0";
    case KvType::q4:
      return "q4_0";
  }
  return "";
}

std::string_view select_name(KvSelect select) {
  switch (select) {
    case KvSelect::automatic:
      return "auto";
    case KvSelect::all:
      return "all";
    case KvSelect::index:
      return "index";
    case KvSelect::oracle:
      return "oracle";
  }
  return "";
}

void add_kv_options(CLI::App& command, EngineOptions& engine) {
  add_choice<KvType>(
      command, "--kv", engine.kv,
      {{"cga", KvType::cga},
       {"bf16", KvType::bf16},
       {"f32", KvType::f32},
       {"q8", KvType::q8},
       {"q4", KvType::q4}},
      "cga: compressed, the default if the model has a sidecar; bf16: the default if not; f32; "
      "q8, q4: blocks, to compare cga with")
      ->type_name("TYPE")
      ->group("KV cache");
  command.add_option("--cga", engine.sidecar, "Sidecar; default: the model file's name, ending in .cga")
      ->type_name("FILE")
      ->group("KV cache");
  command
      .add_option("--kv-bits", engine.kv_bits,
                  "Bits a value in the archive; default: the sidecar's, as all below")
      ->check(positive_number(8))
      ->type_name("R")
      ->group("KV cache");
  add_tokens(command, "--kv-window", engine.kv_window, "Last tokens that stay exact");
  add_tokens(command, "--kv-sparse-from", engine.kv_sparse_from, "Contexts up to this length stay exact");
  add_tokens(command, "--kv-residents", engine.kv_residents,
             "Archived tokens kept decoded: memory for speed");
  add_choice<KvSelect>(
      command, "--kv-select", engine.kv_select,
      {{"index", KvSelect::index}, {"oracle", KvSelect::oracle}, {"all", KvSelect::all}},
      "What of the archive is read. index: what the sidecar's index finds, the default if it has one; all: "
      "everything; oracle: what attention would read most of (slow, to judge an index by)")
      ->type_name("NAME")
      ->group("KV cache");
  add_tokens(command, "--kv-budget", engine.kv_budget,
             "Archived tokens that a query reads, a multiple of 16");
  add_choice<std::int32_t>(command, "--kv-by-need", engine.kv_by_need, {{"on", 1}, {"off", 0}},
                           "A query reads as much as it needs, --kv-budget on the mean: the default if the "
                           "sidecar's index knows")
      ->type_name("on|off")
      ->group("KV cache");
  add_tokens(command, "--kv-refresh", engine.kv_refresh,
             "Tokens that share a choice: 1 (default), 2, 4 … 64: speed for quality");
  command
      .add_option(
          "--kv-inertia", engine.kv_inertia,
          "Nats by which another archived token must score higher than one that was chosen a token ago")
      ->check(CLI::Range(0.0, 100.0))
      ->type_name("X")
      ->group("KV cache");
}

CLI::Validator positive_number(double high) {
  const auto check = [high](const std::string& text) -> std::string {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && end == text.data() + text.size() && value > 0 && value <= high) return "";
    return fmt::format("found '{}', expected a number above 0, at most {}", text, high);
  };
  return {check, ""};
}

CLI::Validator whole_number(std::int64_t low, std::int64_t high) {
  const auto check = [low, high](const std::string& text) -> std::string {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && end == text.data() + text.size() && value >= low && value <= high) return "";
    return "found '" + text + "', expected a whole number from " + std::to_string(low) + " to " +
           std::to_string(high);
  };
  return {check, ""};
}

std::filesystem::path model_path(const EngineOptions& options, Context& context) {
  if (!options.model.empty()) return options.model;
  std::filesystem::path fallback = models_folder() / kDefaultModel;
  std::error_code ignored;
  if (!std::filesystem::exists(fallback, ignored)) {
    throw Error(ErrorKind::usage, "-m/--model",
                "no model was given, and the default one, " + fallback.string() + ", is not there",
                "give a GGUF file with -m, or let tools/quickstart.sh fetch the default");
  }
  context.log.info("no -m: using {}", fallback.string());
  return fallback;
}

namespace {

std::string describe_selection(const EngineOptions& used) {
  if (used.kv_select == KvSelect::all) return "everything archived is read";
  const std::string how = used.kv_select == KvSelect::index ? "the index chooses" : "an oracle chooses";
  const std::string when = used.kv_refresh > 1 ? fmt::format(" every {} tokens", used.kv_refresh) : "";
  const char* const each = used.kv_by_need > 0 ? " on the mean, by need" : "";
  return fmt::format("{} {} tokens{}{}", how, format_count(used.kv_budget), each, when);
}

/// Which cache a run uses, where the command line left it open.
void log_cache(const Engine& engine, KvType asked, Context& context) {
  const EngineOptions& used = engine.options();
  if (used.kv == KvType::cga) {
    const auto level = used.n_ctx > used.kv_sparse_from ? spdlog::level::info : spdlog::level::debug;
    context.log.log(level, "kv cga: {} bits a value, window {}, exact up to {}, {} residents; {}",
                    used.kv_bits, format_count(used.kv_window), format_count(used.kv_sparse_from),
                    format_count(used.kv_residents), describe_selection(used));
  } else if (asked == KvType::automatic) {
    context.log.debug(
        "keys and values stay whole, as bf16: no sidecar beside the model, or a context that stays exact");
  }
}

}  // namespace

Engine open_engine(const ModelOptions& options, Context& context) {
  const Stopwatch watch;
  EngineOptions engine_options = options.engine;
  if (engine_options.shape.empty()) engine_options.model = model_path(engine_options, context);
  std::optional<Progress> progress(std::in_place, "loading the model");
  engine_options.warn = [&](const std::string& what) { context.log.warn("{}", what); };
  engine_options.progress = [&](double share) { progress->update_share(share); };
  Engine engine(engine_options);
  progress.reset();
  const ModelInfo& info = engine.info();
  const MemoryPlan& plan = engine.plan();
  context.log.debug("{}: {} layers, {} parameters, {}, on {}; ready in {:.2f} s", info.name, info.n_layers,
                    format_count(info.n_params), info.weight_types, info.device, watch.seconds());
  context.log.debug("context {}: weights {}, keys and values {}, codec {}, scratch {}, reading a prompt {}",
                    format_count(plan.n_ctx), format_bytes(plan.weights), format_bytes(plan.kv),
                    format_bytes(plan.transform), format_bytes(plan.scratch), format_bytes(plan.prefill));
  log_cache(engine, options.engine.kv, context);
  return engine;
}

SamplingOptions SamplingFlags::resolved() const {
  SamplingOptions result = sampling;
  result.seed = seed >= 0 ? static_cast<std::uint64_t>(seed) : std::random_device{}();
  return result;
}

void add_sampling_options(CLI::App& command, SamplingFlags& flags) {
  SamplingOptions& sampling = flags.sampling;
  const auto add = [&command](const std::string& name, auto& value, const std::string& description) {
    command.add_option(name, value, description)->type_name("X")->group("Sampling")->capture_default_str();
  };
  add("--temp,--temperature", sampling.temperature, "Temperature; 0: always the likeliest token");
  add("--top-k", sampling.top_k, "Draw from the k likeliest tokens; 0: off");
  add("--top-p", sampling.top_p, "Draw from the fewest tokens that together reach p; 1: off");
  add("--min-p", sampling.min_p, "Drop tokens less likely than this share of the likeliest; 0: off");
  add("--repeat-penalty", sampling.repeat_penalty, "Divide the logits of recent tokens; 1: off");
  add("--presence-penalty", sampling.presence_penalty, "Subtract from the logits of recent tokens; 0: off");
  add("--frequency-penalty", sampling.frequency_penalty, "Subtract for each recent occurrence; 0: off");
  add("--repeat-last-n", sampling.repeat_last_n, "Tokens the penalties look back over; -1: all");
  command.add_option("-s,--seed", flags.seed, "Same seed, same text; -1: another every time")
      ->check(whole_number(-1, std::numeric_limits<std::int64_t>::max()))
      ->type_name("N")
      ->group("Sampling")
      ->capture_default_str();
}

std::vector<std::string> expand_short_options(int argc, const char* const* argv) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kLongNames = {{
      {"-ub", "--ubatch-size"},
      {"-np", "--n-parallel"},
      {"-sys", "--system-prompt"},
      {"-no-cnv", "--no-conversation"},
  }};
  std::vector<std::string> result;
  bool options_ended = false;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    options_ended = options_ended || argument == "--";
    for (const auto& [name, long_name] : kLongNames) {
      if (!options_ended && argument == name) argument = long_name;
    }
    result.push_back(std::move(argument));
  }
  return result;
}

std::string read_text_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(path, ignored);
  if (!is_folder && file) text << file.rdbuf();
  if (is_folder || !file || file.bad()) {
    throw Error(ErrorKind::io, path.string(), is_folder ? "is a folder" : std::strerror(errno),
                "check the path");
  }
  return text.str();
}

}  // namespace cga::cli

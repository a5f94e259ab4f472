// `cga inspect`: what is in a model file and its sidecar, and how much memory it would take to run it. Loads
// no weights.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cga/engine.h"
#include "cga/inspect.h"
#include "tools/cga/commands/inspect/sidecar.h"
#include "tools/cga/context.h"
#include "tools/cga/options.h"

namespace cga::cli {
namespace {

struct InspectOptions {
  ModelOptions model;
  bool plan = false;
  bool tensors = false;
  bool json = false;
};

/// All tensors of one weight type together.
struct TypeTotal {
  std::string type;
  std::int64_t n_tensors = 0, n_values = 0, bytes = 0;
};

/// Largest first.
std::vector<TypeTotal> totals_by_type(const ModelDescription& model) {
  std::map<std::string, TypeTotal> by_type;
  for (const TensorDescription& tensor : model.tensors) {
    TypeTotal& total = by_type[tensor.type];
    total.type = tensor.type;
    ++total.n_tensors;
    total.n_values += tensor.n_values;
    total.bytes += tensor.bytes;
  }
  std::vector<TypeTotal> totals;
  for (const auto& [type, total] : by_type) totals.push_back(total);
  std::sort(totals.begin(), totals.end(), [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  return totals;
}

std::string model_text(const ModelDescription& model, const std::string& path, bool with_tensors) {
  std::string text = fmt::format("{}: {}\n\n", path, format_bytes(model.file_bytes));
  for (const auto& [key, value] : model.metadata) text += fmt::format("{} = {}\n", key, value);
  text +=
      fmt::format("\n{:8} {:>8} {:>16} {:>10} {:>12}\n", "type", "tensors", "values", "bytes", "bits/value");
  for (const TypeTotal& total : totals_by_type(model)) {
    const double bits = 8.0 * static_cast<double>(total.bytes) /
                        static_cast<double>(std::max<std::int64_t>(total.n_values, 1));
    text += fmt::format("{:8} {:>8} {:>16} {:>10} {:>12.2f}\n", total.type, format_count(total.n_tensors),
                        format_count(total.n_values), format_bytes(total.bytes), bits);
  }
  if (!with_tensors) return text;
  text += "\n";
  for (const TensorDescription& tensor : model.tensors) {
    text += fmt::format("{:40} {:6} {:>20} {:>10}\n", tensor.name, tensor.type,
                        fmt::format("{}", fmt::join(tensor.shape, " x ")), format_bytes(tensor.bytes));
  }
  return text;
}

/// What a compact cache takes apart, and how much smaller that is than bf16.
template <class Line>
std::string compact_lines(const MemoryPlan& plan, const Line& line) {
  if (plan.transform == 0) return "";
  const auto ratio = [&](std::string_view what, std::int64_t bytes) {
    return fmt::format("{:16} {:>15.2f}x smaller than bf16\n", what,
                       static_cast<double>(plan.kv_bf16) / static_cast<double>(bytes));
  };
  return line("  exact", plan.kv_exact) + line("  archive", plan.kv_archive) +
         line("  residents", plan.kv_residents) + (plan.kv_index > 0 ? line("  index", plan.kv_index) : "") +
         ratio("  together", plan.kv) + ratio("  with the codec", plan.kv + plan.transform) +
         line("codec", plan.transform) + line("reading a prompt", plan.prefill);
}

std::string plan_text(const MemoryPlan& plan) {
  const auto line = [](std::string_view what, std::int64_t bytes) {
    return fmt::format("{:16} {:>16} bytes {:>10}\n", what, format_count(bytes), format_bytes(bytes));
  };
  return fmt::format("\nmemory for a context of {} tokens, {} sequence{}\n", format_count(plan.n_ctx),
                     plan.n_sequences, plan.n_sequences == 1 ? "" : "s") +
         line("weights", plan.weights) + line("keys and values", plan.kv) + compact_lines(plan, line) +
         line("scratch", plan.scratch) + line("total", plan.total()) + line("KV as bf16", plan.kv_bf16);
}

nlohmann::ordered_json model_json(const ModelDescription& model, const std::string& path) {
  nlohmann::ordered_json metadata = nlohmann::ordered_json::object();
  for (const auto& [key, value] : model.metadata) metadata[key] = value;
  nlohmann::ordered_json types = nlohmann::ordered_json::array(), tensors = types;
  for (const TypeTotal& total : totals_by_type(model)) {
    types.push_back({{"type", total.type},
                     {"tensors", total.n_tensors},
                     {"values", total.n_values},
                     {"bytes", total.bytes}});
  }
  for (const TensorDescription& tensor : model.tensors) {
    tensors.push_back(
        {{"name", tensor.name}, {"type", tensor.type}, {"shape", tensor.shape}, {"bytes", tensor.bytes}});
  }
  return {{"file", path},
          {"bytes", model.file_bytes},
          {"metadata", metadata},
          {"types", types},
          {"tensors", tensors}};
}

nlohmann::ordered_json plan_json(const MemoryPlan& plan) {
  return {{"n_ctx", plan.n_ctx},
          {"n_sequences", plan.n_sequences},
          {"weights", plan.weights},
          {"kv", plan.kv},
          {"scratch", plan.scratch},
          {"total", plan.total()},
          {"kv_bf16", plan.kv_bf16},
          {"kv_bytes", plan.kv},
          {"kv_exact_bytes", plan.kv_exact},
          {"kv_archive_bytes", plan.kv_archive},
          {"kv_resident_bytes", plan.kv_residents},
          {"kv_index_bytes", plan.kv_index},
          {"kv_bf16_bytes", plan.kv_bf16},
          {"transform_bytes", plan.transform},
          {"prefill_bytes", plan.prefill}};
}

/// The sidecar that is named or lies beside the model.
struct ShownSidecar {
  std::string path;
  SidecarDescription description;
};

std::optional<ShownSidecar> find_sidecar(const EngineOptions& engine) {
  const bool named = !engine.sidecar.empty();
  const std::filesystem::path path = named ? engine.sidecar : sidecar_beside(engine.model);
  std::error_code ignored;
  if (!named && !std::filesystem::exists(path, ignored)) return std::nullopt;
  std::vector<double> rates{1.0, 1.5, 2.0};
  if (engine.kv_bits > 0) rates = {engine.kv_bits};
  return ShownSidecar{path.string(), describe_sidecar(path, rates)};
}

int inspect_shape(const InspectOptions& options, Context& context) {
  if (!options.plan) {
    throw Error(ErrorKind::usage, "--shape", "a shape has no file to look into",
                "add --plan to see its memory");
  }
  const MemoryPlan plan = plan_memory(options.model.engine);
  context.out.write(options.json ? nlohmann::ordered_json{{"plan", plan_json(plan)}}.dump(2) + "\n"
                                 : plan_text(plan));
  return 0;
}

int inspect(const InspectOptions& options, Context& context) {
  EngineOptions engine = options.model.engine;
  if (!engine.shape.empty()) return inspect_shape(options, context);
  engine.model = model_path(engine, context);
  engine.warn = [&](const std::string& what) { context.log.warn("{}", what); };
  const std::string path = engine.model.string();
  const ModelDescription model = describe_model_file(engine.model);
  const std::optional<ShownSidecar> sidecar = find_sidecar(engine);
  if (options.json) {
    nlohmann::ordered_json object = model_json(model, path);
    if (sidecar) object["sidecar"] = sidecar_json(sidecar->description, sidecar->path);
    if (options.plan) object["plan"] = plan_json(plan_memory(engine));
    // A file's strings may be any bytes; JSON's may not.
    context.out.write(object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
    return 0;
  }
  context.out.write(model_text(model, path, options.tensors));
  if (sidecar) context.out.write(sidecar_text(sidecar->description, sidecar->path));
  if (options.plan) context.out.write(plan_text(plan_memory(engine)));
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Context& context) {
  const auto options = std::make_shared<InspectOptions>();
  CLI::App* command = app.add_subcommand("inspect", "Show what is in a model file and its sidecar");
  command->add_flag("--plan", options->plan, "Show the memory it takes to run with the context given by -c");
  command->add_flag("--tensors", options->tensors, "List every tensor");
  command->add_flag("--json", options->json, "Write one JSON object with everything");
  command->add_option("--sequences", options->model.engine.n_sequences, "Sequences to plan for")
      ->check(whole_number(1, 4096))
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--shape", options->model.engine.shape, "Plan for a named shape (llama3-8b) instead of -m")
      ->type_name("NAME");
  add_model_options(*command, options->model);
  context.on_run(command, [options, &context] { return inspect(*options, context); });
}

}  // namespace cga::cli

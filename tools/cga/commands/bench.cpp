// `cga bench`: prefill and decode speed by depth, beside what the machine's memory allows. Options and field
// names are llama-bench's. The table goes to standard output, a row when its test is done.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/cga/commands/bench/measure.h"
#include "tools/cga/options.h"

namespace cga::cli {
namespace {

struct BenchOptions {
  EngineOptions engine;
  BenchLists lists;
  MeasureOptions measure;
  BenchFormat format = BenchFormat::md;
  bool no_warm_up = false;
};

std::string backend_name(const std::string& device) {
  return device.starts_with("CUDA") ? "CUDA" : "CPU";
}

std::string model_type(const ModelInfo& info) {
  const auto n = static_cast<double>(info.n_params);
  return fmt::format("{} {} {}", info.architecture,
                     n < 1e9 ? fmt::format("{:.0f}M", n / 1e6) : fmt::format("{:.1f}B", n / 1e9),
                     info.file_type);
}

/// A loaded engine and what is known of it before the first test.
struct Bench {
  Engine engine;
  BenchSubject subject;
  std::int64_t load_peak = 0;
};

Bench load(const BenchOptions& options, const std::vector<BenchTest>& tests, const BenchSetup& setup,
           Context& context) {
  ModelOptions model;
  model.engine = options.engine;
  model.engine.n_threads = setup.n_threads;
  model.engine.n_ubatch = setup.n_ubatch;
  model.engine.n_ctx = context_needed(tests, setup);
  model.engine.n_sequences = sequences_needed(tests, setup);
  reset_peak_memory();
  const Stopwatch watch;
  Engine engine = open_engine(model, context);
  BenchSubject subject;
  subject.load_ms = 1e3 * watch.seconds();
  const std::int64_t load_peak = peak_memory();

  const ModelInfo& info = engine.info();
  subject.build = CGA_VERSION;
  subject.cpu_info = cpu_name();
  subject.backend = backend_name(info.device);
  subject.device = info.device;
  subject.model_filename =
      options.engine.shape.empty() ? engine.options().model.string() : options.engine.shape;
  subject.model_type = model_type(info);
  subject.model_size = info.weight_bytes;
  subject.model_n_params = info.n_params;
  subject.kv_type = kv_name(engine.options().kv);
  if (engine.options().kv == KvType::cga) {
    subject.kv_select = select_name(engine.options().kv_select);
    if (engine.options().kv_select != KvSelect::all) {
      subject.kv_budget = engine.options().kv_budget;
      subject.kv_refresh = engine.options().kv_refresh;
      subject.kv_inertia = engine.options().kv_inertia;
    }
  }
  subject.plan = engine.plan();
  subject.n_threads = engine.options().n_threads;
  subject.bandwidth_gb_per_s = engine.measure_bandwidth() / 1e9;
  return {std::move(engine), std::move(subject), load_peak};
}

/// All tests of one setup. @return false if a signal ended them
bool run_setup(const BenchOptions& options, const std::vector<BenchTest>& tests, const BenchSetup& setup,
               BenchReport& report, Context& context) {
  Bench bench = load(options, tests, setup, context);
  const Interrupts::Polling polling(context.interrupts);
  MeasureOptions measuring = options.measure;
  measuring.warm_up = !options.no_warm_up;
  measuring.go_on = [&context] { return context.interrupts.pending() == 0; };
  for (const BenchTest& test : tests) {
    if (test.setup != setup) continue;
    measuring.say = [&](const std::string& what) { context.log.info("{}: {}", test.name(), what); };
    reset_peak_memory();
    std::optional<BenchResult> result = measure(bench.engine, bench.subject, test, measuring);
    if (!result) return false;
    result->peak_rss_bytes = std::max(bench.load_peak, peak_memory());
    context.out.write(report.add(*result));
  }
  return true;
}

int run_bench(const BenchOptions& options, Context& context) {
  const std::vector<BenchTest> tests = plan_tests(options.lists);
  BenchReport report(options.format, options.lists);
  std::vector<BenchSetup> done;
  bool complete = true;
  for (const BenchTest& test : tests) {
    if (!complete || std::find(done.begin(), done.end(), test.setup) != done.end()) continue;
    done.push_back(test.setup);
    complete = run_setup(options, tests, test.setup, report, context);
  }
  context.out.write(report.end());
  return complete ? 0 : Interrupts::exit_code(context.interrupts.pending());
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("bench", "Speed of prefill and decode, by depth");
  const auto options = std::make_shared<BenchOptions>();
  EngineOptions& engine = options->engine;
  CLI::Option* model = command->add_option("-m,--model", engine.model, "GGUF file")->type_name("FILE");
  command
      ->add_option("--shape", engine.shape,
                   "Random weights of a named shape (llama3-8b, llama3-8b:BF16) instead of -m")
      ->type_name("NAME")
      ->excludes(model);
  add_device_options(*command, engine);
  command
      ->add_option(
          "-f,--file", options->measure.text,
          "Take the tokens from this text, so that what is read again is as in real use; default: random")
      ->type_name("FILE");

  const auto add_list = [command](const char* names, std::vector<std::int32_t>& list, const char* about,
                                  int low, int high = std::numeric_limits<int>::max()) {
    command->add_option(names, list, about)
        ->delimiter(',')
        ->check(whole_number(low, high))
        ->type_name("N,N")
        ->capture_default_str();
  };
  BenchLists& lists = options->lists;
  add_list("-p,--n-prompt", lists.n_prompt, "Prompt lengths; 0: none", 0);
  add_list("-n,--n-gen", lists.n_gen, "Generation lengths; 0: none", 0);
  add_list("-d,--n-depth", lists.n_depth, "Tokens in the cache before a test", 0);
  add_list("--n-parallel", lists.n_parallel, "(-np) Sequences that generate together", 1, 4096);
  add_list("-t,--threads", lists.n_threads, "Threads; 0: all cores", 0, 1024);
  add_list("-b,--batch-size", lists.n_batch, "Prompt tokens handed to the engine at once", 1);
  add_list("--ubatch-size", lists.n_ubatch, "(-ub) Tokens that go through the layers at once", 1, 65536);
  command->add_option("-r,--repetitions", options->measure.repetitions, "Times each test is run")
      ->check(whole_number(1, 10000))
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--no-warmup", options->no_warm_up, "Skip the run before the timed ones");
  add_choice<BenchFormat>(*command, "-o,--output", options->format,
                          {{"md", BenchFormat::md}, {"csv", BenchFormat::csv}, {"json", BenchFormat::json}},
                          "md (default), csv or json")
      ->type_name("FORMAT");
  context.on_run(command, [options, &context] { return run_bench(*options, context); });
}

}  // namespace cga::cli

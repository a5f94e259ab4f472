// The `cga` binary: parses the line, runs one command, and turns every way it can end into an exit code.
#include <spdlog/sinks/stdout_sinks.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <memory>
#include <new>
#include <sstream>
#include <string>
#include <vector>

#include "cga/error.h"
#include "tools/cga/context.h"
#include "tools/cga/options.h"

namespace cga::cli {
namespace {

constexpr const char* kAbout =
    "Llama-style language models on this machine.\n"
    "Text goes to standard output, everything else to standard error. Exit codes: 0 ok, 2 usage, 3 bad "
    "file,\n"
    "4 memory, 5 device, 6 input or output, 7 partly done, 130 and 143 stopped by a signal.";

int code(ErrorKind kind) {
  return static_cast<int>(kind);
}

std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

/// Parses the line. @return an exit code if there is nothing left to run
std::optional<int> parse(CLI::App& app, std::vector<std::string> arguments, Context& context) {
  try {
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
    app.parse(std::move(arguments));
    return std::nullopt;
  } catch (const CLI::Success& request) {  // --help, --version
    std::ostringstream text, ignored;
    app.exit(request, text, ignored);
    context.out.write(text.str());
    return 0;
  } catch (const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    const std::string command = chosen.empty() ? "cga" : "cga " + chosen.front()->get_name();
    const auto strays = app.remaining();
    const bool no_command = chosen.empty() && !strays.empty() && !strays.front().starts_with('-');
    const std::string problem =
        no_command ? "there is no command '" + strays.front() + "'" : one_line(error.what());
    context.log.error("{}; see {} --help", problem, command);
    return code(ErrorKind::usage);
  }
}

int run(int argc, const char* const* argv, Context& context) {
  CLI::App app(kAbout, "cga");
  app.set_version_flag("--version", "cga " CGA_VERSION);
  app.require_subcommand(1);
  add_commands(app, context);
  bool verbose = false;
  for (CLI::App* command : app.get_subcommands(nullptr)) {
    command->add_flag("-v,--verbose", verbose, "Say more on standard error");
  }
  if (const auto ended = parse(app, expand_short_options(argc, argv), context)) return *ended;
  if (verbose) context.log.set_level(spdlog::level::debug);
  return context.run();
}

int guarded_main(int argc, const char* const* argv) {
  spdlog::logger log("cga", std::make_shared<spdlog::sinks::stderr_sink_st>());
  log.set_pattern("cga: %l: %v");
  try {
    hold_standard_streams();
    std::signal(SIGPIPE, SIG_IGN);  // a failed write is reported where it happens
    Interrupts interrupts;
    Output out;
    Context context{out, log, interrupts, {}};
    return run(argc, argv, context);
  } catch (const BrokenPipe&) {
    return code(ErrorKind::io);
  } catch (const Error& error) {
    log.error("{}", one_line(error.what()));
    return error.exit_code();
  } catch (const std::bad_alloc&) {
    log.error("out of memory; use a smaller context (-c) or model");
    return code(ErrorKind::memory);
  } catch (const std::exception& error) {
    log.error("unexpected: {}", one_line(error.what()));
    return 1;
  }
}

}  // namespace
}  // namespace cga::cli

int main(int argc, char** argv) {
  return cga::cli::guarded_main(argc, argv);
}

// Timing; see the header.
#include "tools/cga/commands/bench/measure.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <random>
#include <span>
#include <string_view>

#include "tools/cga/options.h"
#include "tools/cga/stats.h"

namespace cga::cli {
namespace {

using Clock = std::chrono::steady_clock;

/// Feeds sessions, a batch at a time, with random tokens or those of a text, over and over.
class Driver {
 public:
  Driver(Engine& engine, const BenchTest& test, const MeasureOptions& options)
      : engine_(engine), n_batch_(test.n_batch), go_on_(options.go_on) {
    for (std::int32_t i = 0; i < test.n_parallel; ++i) sessions_.emplace_back(engine);
    if (options.text.empty()) return;
    text_ = engine.tokenizer().encode(read_text_file(options.text), false);
    if (text_.empty()) throw Error(ErrorKind::usage, options.text, "it is empty", "give a text with -f");
  }

  std::int32_t n_past() const { return sessions_.front().n_past(); }

  void truncate(std::int32_t n) {
    for (Session& session : sessions_) session.truncate(n);
  }

  /// One session after the other. @return false if it was given up
  bool prompt(std::int32_t n) {
    // Text is read whole: under cga, each piece would read what came before from codes.
    const bool is_whole = n_past() == 0 || engine_.options().kv == KvType::cga;
    const std::int32_t piece = is_whole ? n : n_batch_;
    for (Session& session : sessions_) {
      for (std::int32_t left = n; left > 0;) {
        const std::int32_t now = std::min(left, piece);
        left -= now;
        if (!feed({&session, 1}, now, left == 0 ? Feed::Want::last : Feed::Want::none)) return false;
      }
    }
    return true;
  }

  /// All sessions together.
  bool generate(std::int32_t n) {
    for (std::int32_t i = 0; i < n; ++i) {
      if (!feed(sessions_, 1, Feed::Want::last)) return false;
    }
    return true;
  }

 private:
  bool feed(std::span<Session> sessions, std::int32_t n, Feed::Want want) {
    std::uniform_int_distribution<TokenId> any(0, engine_.info().n_vocab - 1);
    const auto n_tokens = static_cast<std::size_t>(n);
    tokens_.resize(n_tokens * sessions.size());
    feeds_.clear();
    for (std::size_t s = 0; s < sessions.size(); ++s) {
      const auto at = static_cast<std::size_t>(sessions[s].n_past());
      const std::span<TokenId> tokens = std::span(tokens_).subspan(s * n_tokens, n_tokens);
      for (std::size_t i = 0; i < n_tokens; ++i) {
        tokens[i] = text_.empty() ? any(random_) : text_[(at + i) % text_.size()];
      }
      feeds_.push_back({&sessions[s], tokens, want});
    }
    engine_.run(feeds_, [&](std::int64_t) { return go_on_(); });
    return go_on_();
  }

  Engine& engine_;
  std::vector<Session> sessions_;
  std::int32_t n_batch_;
  const std::function<bool()>& go_on_;
  std::vector<TokenId> text_;
  std::mt19937 random_{42};
  std::vector<TokenId> tokens_;
  std::vector<Feed> feeds_;
};

/// Bytes the test reads at least, a token: each pass through the layers reads all weights, and the cache of
/// each sequence.
double bytes_per_token(const Engine& engine, const BenchTest& test) {
  double sum = 0.0;
  for (std::int32_t done = 0; done < test.n_tokens();) {
    const std::int32_t pass =
        test.n_gen > 0 ? 1 : std::min({test.setup.n_ubatch, test.n_batch, test.n_prompt - done});
    const auto one = static_cast<double>(engine.decode_bytes(test.n_depth + done));
    const double cache = one - static_cast<double>(engine.decode_bytes(0));
    sum += one / test.n_parallel + cache * (test.n_parallel - 1) / test.n_parallel;
    done += pass;
  }
  return sum / test.n_tokens();
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  const std::size_t n = std::strftime(text, sizeof text, "%FT%TZ", &parts);
  return {text, n};
}

/// The text after `key` and a colon in one of the system's tables.
std::string system_field(const char* path, std::string_view key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || !line.starts_with(key)) continue;
    const std::size_t value = line.find_first_not_of(" \t", colon + 1);
    return value == std::string::npos ? "" : line.substr(value);
  }
  return "";
}

}  // namespace

std::int64_t peak_memory() {
  const std::string kib = system_field("/proc/self/status", "VmHWM");
  return kib.empty() ? 0 : std::stoll(kib) * 1024;
}

void reset_peak_memory() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

std::string cpu_name() {
  return system_field("/proc/cpuinfo", "model name");
}

std::optional<BenchResult> measure(Engine& engine, const BenchSubject& subject, const BenchTest& test,
                                   const MeasureOptions& options) {
  BenchResult result;
  result.subject = subject;
  result.test = test;
  result.test_time = utc_now();
  result.bytes_per_token = bytes_per_token(engine, test);
  Driver driver(engine, test, options);
  if (options.warm_up) {
    options.say("warm-up");
    if (test.n_prompt > 0 && !driver.prompt(test.n_prompt)) return std::nullopt;
    if (test.n_gen > 0 && !driver.generate(1)) return std::nullopt;
    driver.truncate(0);
  }
  if (test.n_depth > 0) options.say("filling the cache");
  if (!driver.prompt(test.n_depth)) return std::nullopt;
  engine.reset_kv_reuse();
  for (std::int32_t i = 0; i < options.repetitions; ++i) {
    options.say(fmt::format("run {} of {}", i + 1, options.repetitions));
    driver.truncate(test.n_depth);
    const auto start = Clock::now();
    if (!driver.prompt(test.n_prompt) || !driver.generate(test.n_gen)) return std::nullopt;
    result.samples_ns.push_back(
        std::max<std::int64_t>(std::chrono::nanoseconds(Clock::now() - start).count(), 1));
  }
  const KvReuse reuse = engine.kv_reuse();
  if (reuse.choices > 0) {
    const auto choices = static_cast<double>(reuse.choices);
    result.units_read = static_cast<double>(reuse.chosen) / choices;
    result.units_decoded = static_cast<double>(reuse.decoded) / choices;
    result.resident_share = 1 - static_cast<double>(reuse.decoded) / static_cast<double>(reuse.needed);
  }
  result.kv = engine.kv_usage(driver.n_past());
  return result;
}

}  // namespace cga::cli

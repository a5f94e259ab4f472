// From logits to a token: penalties, top-k, top-p, min-p, temperature, draw, with llama.cpp's definitions.
// A vocabulary of 150,000 is never sorted whole: each step looks only at what the step before it left.
#include "cga/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <deque>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "cga/error.h"

namespace cga {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Candidate {
  TokenId id;
  float logit;
};

/// The order of everything here: likeliest first, ties to the lower id, so that equal runs draw equally.
bool before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

void require(bool holds, std::string_view option, double value, std::string_view range) {
  if (holds) return;
  throw Error(ErrorKind::usage, option, std::to_string(value) + " is out of range",
              "give " + std::string(range));
}

void check(const SamplingOptions& o) {
  require(std::isfinite(o.temperature), "--temp", o.temperature, "a finite number");
  require(o.top_k >= 0, "--top-k", o.top_k, "0 (off) or more");
  require(o.top_p >= 0 && o.top_p <= 1, "--top-p", o.top_p, "a number from 0 to 1");
  require(o.min_p >= 0 && o.min_p <= 1, "--min-p", o.min_p, "a number from 0 to 1");
  require(o.repeat_penalty > 0 && std::isfinite(o.repeat_penalty), "--repeat-penalty", o.repeat_penalty,
          "a number above 0");
  require(std::isfinite(o.presence_penalty), "--presence-penalty", o.presence_penalty, "a finite number");
  require(std::isfinite(o.frequency_penalty), "--frequency-penalty", o.frequency_penalty, "a finite number");
  require(o.repeat_last_n >= -1, "--repeat-last-n", o.repeat_last_n, "-1 (all) or more");
}

/// What one look at some logits tells.
struct Scan {
  float highest = -kInfinity;
  bool all_valid = true;  // neither NaN nor +inf among them
};

/// A float's bits as an integer of the same order; NaNs lie beyond the infinities. Its own inverse.
std::int32_t ordered(std::int32_t bits) {
  return bits ^ ((bits >> 31) & 0x7fffffff);
}
std::int32_t ordered(float value) {
  return ordered(std::bit_cast<std::int32_t>(value));
}

/// Over integers, because compilers may reorder their maxima and so use vector registers.
Scan scan(std::span<const float> logits) {
  std::int32_t highest = ordered(-kInfinity), lowest = ordered(kInfinity);
  for (const float logit : logits) {
    const std::int32_t key = ordered(logit);
    highest = std::max(highest, key);
    lowest = std::min(lowest, key);
  }
  return {std::bit_cast<float>(ordered(highest)),
          lowest >= ordered(-kInfinity) && highest < ordered(kInfinity)};
}

/// -inf is a token that must not be drawn; NaN, +inf, or nothing that may be drawn is a broken model.
/// @param logits  [n_vocab], f32
void check(std::span<const float> logits) {
  const Scan seen = scan(logits);
  if (seen.all_valid && seen.highest > -kInfinity) return;
  const auto bad =
      std::find_if(logits.begin(), logits.end(), [](float logit) { return !(logit < kInfinity); });
  const std::string problem = bad == logits.end()
                                  ? "no token is possible"
                                  : "token " + std::to_string(bad - logits.begin()) + " has " +
                                        std::to_string(*bad) + ", not a finite number";
  throw Error(ErrorKind::bad_file, "logits", problem, "check the model file; its weights may be damaged");
}

/// The lowest id with the highest logit.  logits: [n_vocab], f32
TokenId likeliest(std::span<const float> logits) {
  return static_cast<TokenId>(std::find(logits.begin(), logits.end(), scan(logits).highest) - logits.begin());
}

/// The k likeliest, in order: a heap of k whose worst member is on top. Blocks with nothing better are
/// skipped.
/// @param logits  [n_vocab], f32
void select_top_k(std::vector<Candidate>& candidates, std::span<const float> logits, std::size_t k) {
  constexpr std::size_t kBlock = 128;
  candidates.clear();
  for (std::size_t first = 0; first < logits.size(); first += kBlock) {
    const std::span<const float> block = logits.subspan(first, std::min(kBlock, logits.size() - first));
    const bool full = candidates.size() == k;
    if (full && !(scan(block).highest > candidates.front().logit)) continue;
    for (std::size_t i = 0; i < block.size(); ++i) {
      const Candidate candidate{static_cast<TokenId>(first + i), block[i]};
      if (candidates.size() == k) {
        if (!(candidate.logit > candidates.front().logit)) continue;  // a tie stays with the lower id
        std::pop_heap(candidates.begin(), candidates.end(), before);
        candidates.pop_back();
      }
      candidates.push_back(candidate);
      std::push_heap(candidates.begin(), candidates.end(), before);
    }
  }
  std::sort_heap(candidates.begin(), candidates.end(), before);
}

float highest_logit(const std::vector<Candidate>& candidates) {
  return std::min_element(candidates.begin(), candidates.end(), before)->logit;
}

/// Keeps the fewest candidates whose probabilities reach `p`. Sorts as far as it must: that is a few hundred
/// of a whole vocabulary as a rule.
void keep_top_p(std::vector<Candidate>& candidates, float p) {
  const float highest = highest_logit(candidates);
  const auto weight = [highest](const Candidate& c) {
    return std::exp(static_cast<double>(c.logit - highest));
  };
  double total = 0;
  for (const Candidate& candidate : candidates) total += weight(candidate);

  double sum = 0;
  std::size_t n_sorted = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (i == n_sorted) {
      n_sorted = std::min(candidates.size(), std::max<std::size_t>(256, 2 * n_sorted));
      const auto begin = candidates.begin();
      std::partial_sort(begin + static_cast<std::ptrdiff_t>(i), begin + static_cast<std::ptrdiff_t>(n_sorted),
                        candidates.end(), before);
    }
    sum += weight(candidates[i]);
    if (sum >= static_cast<double>(p) * total) {
      candidates.resize(i + 1);
      return;
    }
  }
}

/// Drops candidates less than `p` times as likely as the likeliest.
void keep_min_p(std::vector<Candidate>& candidates, float p) {
  const float threshold = highest_logit(candidates) + std::log(p);
  std::erase_if(candidates, [threshold](const Candidate& c) { return c.logit < threshold; });
}

}  // namespace

struct Sampler::State {
  SamplingOptions options;
  std::mt19937_64 random;      // its sequence is fixed by the standard; distributions' are not
  std::deque<TokenId> recent;  // the window of the penalties, oldest first
  std::unordered_map<TokenId, int> occurrences;  // in `recent`
  std::vector<float> penalised;                  // [n_vocab], f32
  std::vector<Candidate> candidates;

  bool penalises() const {
    return options.repeat_last_n != 0 &&
           (options.repeat_penalty != 1.0f || options.presence_penalty != 0.0f ||
            options.frequency_penalty != 0.0f);
  }
  std::span<const float> penalise(std::span<const float> logits);
  void select(std::span<const float> logits);
  TokenId draw();
};

/// The repeat penalty pulls a logit towards "less likely" whatever its sign (Keskar et al.,
/// arXiv:1909.05858).
std::span<const float> Sampler::State::penalise(std::span<const float> logits) {
  if (recent.empty()) return logits;
  penalised.assign(logits.begin(), logits.end());
  for (const auto& [id, count] : occurrences) {
    if (id < 0 || static_cast<std::size_t>(id) >= penalised.size()) continue;
    float& logit = penalised[static_cast<std::size_t>(id)];
    logit = logit > 0 ? logit / options.repeat_penalty : logit * options.repeat_penalty;
    logit -= static_cast<float>(count) * options.frequency_penalty + options.presence_penalty;
  }
  return penalised;
}

void Sampler::State::select(std::span<const float> logits) {
  const std::size_t k = options.top_k > 0 ? static_cast<std::size_t>(options.top_k) : logits.size();
  if (k < logits.size()) {
    select_top_k(candidates, logits, k);
  } else {
    candidates.resize(logits.size());
    for (std::size_t i = 0; i < logits.size(); ++i) candidates[i] = {static_cast<TokenId>(i), logits[i]};
  }
  if (options.top_p < 1) keep_top_p(candidates, options.top_p);
  if (options.min_p > 0) keep_min_p(candidates, options.min_p);
}

TokenId Sampler::State::draw() {
  const double highest = highest_logit(candidates);
  const auto weight = [this, highest](const Candidate& c) {
    return std::exp((static_cast<double>(c.logit) - highest) / static_cast<double>(options.temperature));
  };
  double total = 0;
  for (const Candidate& candidate : candidates) total += weight(candidate);

  double left = static_cast<double>(random() >> 11) * 0x1p-53 * total;  // uniform in [0, total)
  TokenId last = candidates.front().id;
  for (const Candidate& candidate : candidates) {
    const double share = weight(candidate);
    if (share <= 0) continue;
    if (left < share) return candidate.id;
    left -= share;
    last = candidate.id;  // rounding may leave a crumb after the last one
  }
  return last;
}

Sampler::Sampler(const SamplingOptions& options) : state_(std::make_unique<State>()) {
  check(options);
  state_->options = options;
  state_->random.seed(options.seed);
}

Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

TokenId Sampler::sample(std::span<const float> logits) {
  check(logits);
  const std::span<const float> adjusted = state_->penalises() ? state_->penalise(logits) : logits;
  if (state_->options.temperature <= 0) {
    return likeliest(adjusted);
  }
  state_->select(adjusted);
  return state_->draw();
}

void Sampler::accept(TokenId id) {
  State& s = *state_;
  if (!s.penalises()) return;
  s.recent.push_back(id);
  ++s.occurrences[id];
  if (s.options.repeat_last_n < 0 || s.recent.size() <= static_cast<std::size_t>(s.options.repeat_last_n))
    return;
  const auto oldest = s.occurrences.find(s.recent.front());
  if (--oldest->second == 0) s.occurrences.erase(oldest);
  s.recent.pop_front();
}

const SamplingOptions& Sampler::options() const {
  return state_->options;
}

}  // namespace cga

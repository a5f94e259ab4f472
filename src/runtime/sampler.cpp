// From logits to a token: penalties, top-k, top-p, min-p, temperature, draw, with llama.cpp's definitions.
// A vocabulary of 150,000 is never sorted whole: each step looks only at what the step before it left.
// A shortlist goes the same way, as long as it is certain that nothing beyond its end would have been kept.
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
[[noreturn]] void refuse(const std::string& problem) {
  throw Error(ErrorKind::bad_file, "logits", problem, "check the model file; its weights may be damaged");
}
[[noreturn]] void refuse_token(std::ptrdiff_t id, float logit) {
  refuse("token " + std::to_string(id) + " has " + std::to_string(logit) + ", not a finite number");
}

/// @param logits  [n_vocab], f32
void check(std::span<const float> logits) {
  const Scan seen = scan(logits);
  if (seen.all_valid && seen.highest > -kInfinity) return;
  const auto bad =
      std::find_if(logits.begin(), logits.end(), [](float logit) { return !(logit < kInfinity); });
  if (bad != logits.end()) refuse_token(bad - logits.begin(), *bad);
  refuse("no token is possible");
}

void check(const Shortlist& list) {
  const LogitSummary& all = list.summary;
  if (all.first_invalid >= 0) refuse_token(all.first_invalid, all.invalid);
  if (list.likeliest.empty() || !(list.likeliest[0].logit > -kInfinity)) refuse("no token is possible");
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

double weight_beside(float highest, const Candidate& candidate) {
  return std::exp(static_cast<double>(candidate.logit - highest));
}

/// Keeps the fewest candidates whose probabilities reach `p`. Sorts as far as it must: that is a few hundred
/// of a whole vocabulary as a rule.
void keep_top_p(std::vector<Candidate>& candidates, float p) {
  const float highest = highest_logit(candidates);
  double total = 0;
  for (const Candidate& candidate : candidates) total += weight_beside(highest, candidate);

  double sum = 0;
  std::size_t n_sorted = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (i == n_sorted) {
      n_sorted = std::min(candidates.size(), std::max<std::size_t>(256, 2 * n_sorted));
      const auto begin = candidates.begin();
      std::partial_sort(begin + static_cast<std::ptrdiff_t>(i), begin + static_cast<std::ptrdiff_t>(n_sorted),
                        candidates.end(), before);
    }
    sum += weight_beside(highest, candidates[i]);
    if (sum >= static_cast<double>(p) * total) {
      candidates.resize(i + 1);
      return;
    }
  }
}

bool is_whole(const Shortlist& list) {
  return list.likeliest.size() == static_cast<std::size_t>(list.n_vocab);
}

/// Whether a candidate comes before every token that is not in the list.
bool is_before_others(const Candidate& candidate, const Shortlist& list) {
  return is_whole(list) || !before(list.likeliest.back(), candidate);
}

/// How far top-p reaches into the likeliest tokens of a row.
enum class Reach {
  within,  // it kept the first of them
  beyond,  // it keeps all of them, and may keep others
  unknown  // the sum over the row is not known well enough to tell
};

/// As keep_top_p of a whole row whose likeliest tokens these are, in order.
/// @param row_sum  of the row's weights, whose error is at most half of what is allowed for here
Reach keep_top_p(std::vector<Candidate>& likeliest, float p, double row_sum) {
  constexpr double error = 1e-5;
  const double needed = static_cast<double>(p) * row_sum, highest_needed = needed * (1 + error),
               lowest_needed = needed * (1 - error);
  const float highest = likeliest.front().logit;
  double sum = 0;
  for (std::size_t i = 0; i < likeliest.size(); ++i) {
    sum += weight_beside(highest, likeliest[i]);
    if (sum < lowest_needed) continue;
    if (sum < highest_needed) return Reach::unknown;
    likeliest.resize(i + 1);
    return Reach::within;
  }
  return Reach::beyond;
}

/// What min-p keeps has at least this logit.
float min_p_threshold(const std::vector<Candidate>& candidates, float p) {
  return highest_logit(candidates) + std::log(p);
}

/// Drops candidates less than `p` times as likely as the likeliest.
void keep_min_p(std::vector<Candidate>& candidates, float p) {
  const float threshold = min_p_threshold(candidates, p);
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
  /// Whether some penalty makes tokens likelier.
  bool may_raise() const {
    return options.repeat_penalty < 1 || options.presence_penalty < 0 || options.frequency_penalty < 0;
  }
  void penalise(float& logit, int count) const;
  std::span<const float> penalise(std::span<const float> logits);
  void penalise_candidates();
  void cut();
  void select(std::span<const float> logits);
  bool select(const Shortlist& list);
  bool select_without_top_k(const Shortlist& list);
  TokenId draw();
};

/// The repeat penalty pulls a logit towards "less likely" whatever its sign (Keskar et al.,
/// arXiv:1909.05858).
void Sampler::State::penalise(float& logit, int count) const {
  logit = logit > 0 ? logit / options.repeat_penalty : logit * options.repeat_penalty;
  logit -= static_cast<float>(count) * options.frequency_penalty + options.presence_penalty;
}

std::span<const float> Sampler::State::penalise(std::span<const float> logits) {
  if (recent.empty()) return logits;
  penalised.assign(logits.begin(), logits.end());
  for (const auto& [id, count] : occurrences) {
    if (id < 0 || static_cast<std::size_t>(id) >= penalised.size()) continue;
    penalise(penalised[static_cast<std::size_t>(id)], count);
  }
  return penalised;
}

/// Leaves them in order.
void Sampler::State::penalise_candidates() {
  for (Candidate& candidate : candidates) {
    const auto seen = occurrences.find(candidate.id);
    if (seen != occurrences.end()) penalise(candidate.logit, seen->second);
  }
  std::sort(candidates.begin(), candidates.end(), before);
}

void Sampler::State::select(std::span<const float> logits) {
  const std::size_t k = options.top_k > 0 ? static_cast<std::size_t>(options.top_k) : logits.size();
  if (k < logits.size()) {
    select_top_k(candidates, logits, k);
  } else {
    candidates.resize(logits.size());
    for (std::size_t i = 0; i < logits.size(); ++i) candidates[i] = {static_cast<TokenId>(i), logits[i]};
  }
  cut();
}

void Sampler::State::cut() {
  if (options.top_p < 1) keep_top_p(candidates, options.top_p);
  if (options.min_p > 0) keep_min_p(candidates, options.min_p);
}

/// From candidates that are those of the list, after penalties that only lower: a token that is not in the
/// list still comes after the list's last one.
/// @return whether they are now what select() leaves of all logits, in the same order
bool Sampler::State::select(const Shortlist& list) {
  if (options.top_k == 0 || options.top_k >= list.n_vocab) return select_without_top_k(list);
  const auto k = static_cast<std::size_t>(options.top_k);
  if (k > candidates.size() || !is_before_others(candidates[k - 1], list)) return false;
  candidates.resize(k);
  cut();
  return true;
}

bool Sampler::State::select_without_top_k(const Shortlist& list) {
  // What min-p drops of the list, it drops of all that come after it.
  const bool min_p_ends =
      options.min_p > 0 && list.likeliest.back().logit < min_p_threshold(candidates, options.min_p);
  const bool ends = min_p_ends || is_whole(list);
  if (options.top_p < 1) {
    if (penalises() && !recent.empty()) return false;  // they change the sum by tokens that are not listed
    const Reach reach = keep_top_p(candidates, options.top_p, list.summary.sum);
    if (reach == Reach::unknown || (reach == Reach::beyond && !ends)) return false;
  } else if (!ends) {
    return false;
  }
  if (options.min_p > 0) keep_min_p(candidates, options.min_p);
  if (options.top_p == 1) {  // nothing is sorted then: a draw goes by ids
    std::sort(candidates.begin(), candidates.end(),
              [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  }
  return true;
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

std::optional<TokenId> Sampler::sample(const Shortlist& list) {
  check(list);
  State& s = *state_;
  s.candidates.assign(list.likeliest.begin(), list.likeliest.end());
  if (s.penalises() && !s.recent.empty()) {
    if (s.may_raise()) return std::nullopt;  // a token that is not in the list may now be in front
    s.penalise_candidates();
  }
  if (s.options.temperature <= 0) {
    if (!is_before_others(s.candidates.front(), list)) return std::nullopt;
    return s.candidates.front().id;
  }
  if (!s.select(list)) return std::nullopt;
  return s.draw();
}

std::int32_t Sampler::shortlist_size(std::int32_t longest) const {
  const State& s = *state_;
  const SamplingOptions& o = s.options;
  const auto n_penalised = s.penalises() ? static_cast<std::int64_t>(s.occurrences.size()) : 0;
  if (n_penalised > 0 && s.may_raise()) return 0;
  if (o.temperature > 0 && o.top_k == 0) {
    const bool ends = o.top_p < 1 ? n_penalised == 0 : o.min_p > 0;
    return ends ? longest : 0;
  }
  // Penalties may push all of their tokens out of the first k.
  const std::int64_t k = o.temperature <= 0 ? 1 : o.top_k;
  return k <= longest ? static_cast<std::int32_t>(std::min<std::int64_t>(k + n_penalised, longest)) : 0;
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

// Rows of logits to take shortlists of, and shortlists as values to compare.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "kernels/ops.h"

namespace cga::test {

/// How logits are spread: what a selection may trip over is equals, few that are possible, and a single peak.
enum class LogitKind { normal, peaked, steps, equal, few, zeros };
inline constexpr std::array<LogitKind, 6> logit_kinds = {LogitKind::normal, LogitKind::peaked,
                                                         LogitKind::steps,  LogitKind::equal,
                                                         LogitKind::few,    LogitKind::zeros};

inline const char* name_of(LogitKind kind) {
  constexpr const char* names[] = {"normal", "peaked", "in steps", "equal", "few above -inf", "zeros"};
  return names[static_cast<std::size_t>(kind)];
}

inline std::vector<float> random_logits(LogitKind kind, std::int64_t n, std::uint_fast32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits(static_cast<std::size_t>(n));
  for (float& logit : logits) {
    const float x = normal(random);
    switch (kind) {
      case LogitKind::normal:
        logit = x;
        break;
      case LogitKind::peaked:  // the likeliest of many has most of the probability
        logit = x * std::abs(x) - 10.0f;
        break;
      case LogitKind::steps:
        logit = std::round(x) / 2;
        break;
      case LogitKind::equal:
        logit = -2.5f;
        break;
      case LogitKind::few:
        logit = random() % 8 == 0 ? x : -std::numeric_limits<float>::infinity();
        break;
      case LogitKind::zeros:
        logit = random() % 2 == 0 ? 0.0f : -0.0f;
        break;
    }
  }
  if (kind == LogitKind::few) logits[random() % logits.size()] = 0.5f;  // one at least
  return logits;
}

struct TakenShortlists {
  std::vector<Candidate> likeliest;     // [n_rows, k]
  std::vector<LogitSummary> summaries;  // [n_rows]
};

/// By the backend's op, from logits in its memory.
/// @param logits  [n_rows, n_vocab], f32
inline TakenShortlists take_shortlists(Backend& backend, const std::vector<float>& logits,
                                       std::int64_t n_rows, std::int32_t k) {
  const auto memory = backend.allocate(logits.size() * sizeof(float), "test");
  backend.write(memory->data(), logits.data(), logits.size() * sizeof(float));
  TakenShortlists taken;
  taken.likeliest.assign(static_cast<std::size_t>(n_rows * k), {-7, -7.0f});  // poison
  taken.summaries.assign(static_cast<std::size_t>(n_rows), {-7.0, -7, -7.0f});
  backend.ops().shortlist({.logits = memory->as<float>(),
                           .n_rows = n_rows,
                           .n_vocab = static_cast<std::int64_t>(logits.size()) / n_rows,
                           .k = k,
                           .likeliest = taken.likeliest.data(),
                           .summaries = taken.summaries.data()});
  return taken;
}

/// What the contract does not allow; "none" if nothing.
inline std::string difference(const TakenShortlists& actual, const TakenShortlists& expected) {
  const std::size_t n_rows = expected.summaries.size(), k = expected.likeliest.size() / n_rows;
  for (std::size_t row = 0; row < n_rows; ++row) {
    const std::string where = "row " + std::to_string(row) + ": ";
    const LogitSummary &a = actual.summaries[row], &b = expected.summaries[row];
    if (a.first_invalid != b.first_invalid) {
      return where + "first invalid " + std::to_string(a.first_invalid) + " for " +
             std::to_string(b.first_invalid);
    }
    if (b.first_invalid >= 0) {
      if (std::memcmp(&a.invalid, &b.invalid, sizeof a.invalid) != 0) return where + "another invalid logit";
      continue;
    }
    if (!(std::abs(a.sum - b.sum) <= 5e-6 * b.sum)) {
      return where + "sum " + std::to_string(a.sum) + " for " + std::to_string(b.sum);
    }
    for (std::size_t i = row * k; i < (row + 1) * k; ++i) {
      const Candidate &x = actual.likeliest[i], &y = expected.likeliest[i];
      if (x.id == y.id && std::memcmp(&x.logit, &y.logit, sizeof x.logit) == 0) continue;
      return where + "place " + std::to_string(i - row * k) + ": token " + std::to_string(x.id) + ", " +
             std::to_string(x.logit) + " for " + std::to_string(y.id) + ", " + std::to_string(y.logit);
    }
  }
  return "none";
}

}  // namespace cga::test

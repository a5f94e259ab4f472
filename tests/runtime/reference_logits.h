// Reference logits made by Hugging Face transformers (tests/vectors/make_logits.py), and how far an engine's
// logits are from them.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <vector>

namespace cga::test {

/// A text, and for each position either all logits or the likeliest tokens of the next one.
struct ReferenceText {
  std::vector<std::int32_t> ids;      // [n_tokens]
  std::vector<float> logits;          // [n_tokens, n_vocab]; empty if `top` is set
  std::vector<std::int32_t> top_ids;  // [n_tokens, top]
  std::vector<float> top_log_probs;   // [n_tokens, top]
  std::vector<float> rest_log_prob;   // [n_tokens], all other tokens together
};

struct Reference {
  std::int64_t n_vocab = 0, top = 0;
  std::vector<ReferenceText> texts;
};

/// Reads 32-bit words one after another; running off the end throws.
class Words {
 public:
  explicit Words(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    words_.resize(bytes.size() / 4);
    std::copy_n(bytes.data(), words_.size() * 4, reinterpret_cast<char*>(words_.data()));
  }

  template <class T>
  T next() {
    static_assert(sizeof(T) == 4);
    return std::bit_cast<T>(words_.at(at_++));
  }

  template <class T>
  void append(std::vector<T>& out, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) out.push_back(next<T>());
  }

  bool at_end() const { return at_ == words_.size(); }

 private:
  std::vector<std::uint32_t> words_;
  std::size_t at_ = 0;
};

inline Reference read_reference(const std::filesystem::path& path) {
  Words words(path);
  const auto magic = words.next<std::uint32_t>();
  const auto version = words.next<std::int32_t>();
  if (magic != 0x4c414743 || version != 1) throw std::runtime_error(path.string() + ": not reference logits");
  Reference reference;
  reference.n_vocab = words.next<std::int32_t>();
  reference.top = words.next<std::int32_t>();
  reference.texts.resize(words.next<std::uint32_t>());
  for (ReferenceText& text : reference.texts) {
    words.append(text.ids, words.next<std::int32_t>());
    for (std::size_t i = 0; i < text.ids.size(); ++i) {
      if (reference.top == 0) {
        words.append(text.logits, reference.n_vocab);
      } else {
        words.append(text.top_ids, reference.top);
        words.append(text.top_log_probs, reference.top);
        words.append(text.rest_log_prob, 1);
      }
    }
  }
  if (!words.at_end()) throw std::runtime_error(path.string() + ": words left over");
  return reference;
}

inline double log_sum_exp(std::span<const float> logits) {
  const double highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - highest);
  return highest + std::log(sum);
}

/// One outcome's share of KL(p || q), p log(p/q) - p + q. The sum over all outcomes is the divergence, for
/// both p and q sum to one; written so, errors in the last place of log p do not add up to a false
/// divergence.
inline double divergence_term(double log_p, double log_q) {
  const double d = log_q - log_p;
  return std::exp(log_p) * (std::expm1(d) - d);
}

/// KL(reference || engine) of one position, both given as full logits.
inline double divergence(std::span<const float> reference, std::span<const float> logits) {
  const double log_z_p = log_sum_exp(reference), log_z_q = log_sum_exp(logits);
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i)
    sum += divergence_term(reference[i] - log_z_p, logits[i] - log_z_q);
  return sum;
}

/// The same with the reference's tail as one outcome: a lower bound, tight where the tail is light.
inline double divergence(std::span<const std::int32_t> top_ids, std::span<const float> top_log_probs,
                         float rest_log_prob, std::span<const float> logits) {
  const double log_z = log_sum_exp(logits);
  double sum = 0, rest = 1;
  for (std::size_t i = 0; i < top_ids.size(); ++i) {
    const double log_q = logits[static_cast<std::size_t>(top_ids[i])] - log_z;
    sum += divergence_term(top_log_probs[i], log_q);
    rest -= std::exp(log_q);
  }
  return sum + divergence_term(rest_log_prob, std::log(std::max(rest, 1e-30)));
}

/// How far an engine's logits are from the reference, over positions.
struct Distance {
  std::int64_t n_positions = 0;
  double sum_divergence = 0, max_divergence = 0;
  double max_logit_error = 0;  // full references only
  double mean_divergence() const { return sum_divergence / static_cast<double>(n_positions); }

  /// @param logits  [n, n_vocab], of the text's first n tokens
  void add(const Reference& reference, const ReferenceText& text, std::span<const float> logits) {
    const auto n_vocab = static_cast<std::size_t>(reference.n_vocab);
    const auto top = static_cast<std::size_t>(reference.top);
    for (std::size_t i = 0; i < logits.size() / n_vocab; ++i) {
      const std::span<const float> row = logits.subspan(i * n_vocab, n_vocab);
      double kl = 0;
      if (top == 0) {
        const std::span<const float> expected = std::span(text.logits).subspan(i * n_vocab, n_vocab);
        kl = divergence(expected, row);
        for (std::size_t j = 0; j < n_vocab; ++j) {
          max_logit_error = std::max(max_logit_error, std::abs(double{row[j]} - expected[j]));
        }
      } else {
        kl = divergence(std::span(text.top_ids).subspan(i * top, top),
                        std::span(text.top_log_probs).subspan(i * top, top), text.rest_log_prob[i], row);
      }
      ++n_positions;
      sum_divergence += kl;
      max_divergence = std::isnan(kl) ? kl : std::max(max_divergence, kl);
    }
  }
};

}  // namespace cga::test

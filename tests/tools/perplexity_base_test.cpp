// Rows and base files: what is written is what is read, a model compared with itself differs by nothing, and
// damaged files are refused.
#include "tools/cga/commands/perplexity/base.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <random>

#include "cga/error.h"
#include "support/catch.h"

namespace cga::cli {
namespace {

using test::Approx;

/// Logits shaped like a model's: a normal bulk and a few likely tokens.
std::vector<float> random_row(std::size_t n_vocab, std::uint32_t seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> bulk(0.0f, spread);
  std::vector<float> row(n_vocab);
  for (float& logit : row) logit = bulk(random);
  for (std::size_t i = 0; i < 8; ++i) row[random() % n_vocab] += 3.0f * spread;
  return row;
}

double exact_kld(const std::vector<float>& base, const std::vector<float>& model) {
  const auto log_sum = [](const std::vector<float>& row) {
    double sum = 0.0;
    for (const float logit : row) sum += std::exp(double{logit});
    return std::log(sum);
  };
  const double base_sum = log_sum(base), model_sum = log_sum(model);
  double kld = 0.0;
  for (std::size_t i = 0; i < base.size(); ++i) {
    const double log_p = double{base[i]} - base_sum;
    kld += std::exp(log_p) * (log_p - (double{model[i]} - model_sum));
  }
  return kld;
}

RowComparison code_and_compare(const std::vector<float>& base, const std::vector<float>& model,
                               TokenId target) {
  std::vector<std::uint16_t> codes(base.size());
  const CodedRowHead head = encode_row(base, target, codes);
  return compare_row(model, target, head, codes);
}

TEST_CASE("a row compared with itself has a divergence below the coding's bound") {
  for (const float spread : {0.01f, 1.0f, 3.0f, 8.0f}) {
    const std::vector<float> row = random_row(50'000, 7, spread);
    const RowComparison self = code_and_compare(row, row, 123);
    INFO("spread " << spread);
    CHECK(self.kld == Approx(0.0).margin(5e-8));
    CHECK(self.nll == self.nll_base);
    CHECK(self.p_diff == 0.0);
    CHECK(self.same_top);
  }
}

TEST_CASE("the divergence of two rows is that of their exact distributions") {
  const std::vector<float> base = random_row(5'000, 1, 3.0f);
  std::vector<float> model = base;
  std::mt19937 random(2);
  std::normal_distribution<float> noise(0.0f, 0.1f);
  for (float& logit : model) logit += noise(random);
  const RowComparison compared = code_and_compare(base, model, 17);
  // The coding errors, about 1e-4 in each logarithm, meet differences of 0.1 between the rows.
  CHECK(compared.kld == Approx(exact_kld(base, model)).margin(5e-6));
  CHECK(compared.nll_base == Approx(negative_log_likelihood(base, 17)));
  CHECK(compared.nll == Approx(negative_log_likelihood(model, 17)));
}

TEST_CASE("a row that was not coded differs from itself by nothing, from others by the exact divergence") {
  const std::vector<float> base = random_row(5'000, 1, 3.0f), model = random_row(5'000, 2, 3.0f);
  const RowComparison self = compare_row(base, 17, base);
  CHECK(self.kld == 0.0);
  CHECK(self.nll == self.nll_base);
  CHECK(self.same_top);
  const RowComparison other = compare_row(model, 17, base);
  CHECK(other.kld == Approx(exact_kld(base, model)).epsilon(1e-6));
  CHECK(other.kld != Approx(exact_kld(model, base)).epsilon(1e-3));  // and not the other way round
  CHECK(other.nll == Approx(negative_log_likelihood(model, 17)));
  CHECK(other.nll_base == Approx(negative_log_likelihood(base, 17)));
  CHECK(other.p_diff == Approx(std::exp(-other.nll) - std::exp(-other.nll_base)));
  CHECK_FALSE(other.same_top);
}

TEST_CASE("rows that are equal everywhere, and rows with a huge range, are coded") {
  const std::vector<float> flat(100, 2.5f);
  CHECK(code_and_compare(flat, flat, 5).nll == Approx(std::log(100.0)));
  CHECK(code_and_compare(flat, flat, 5).kld == Approx(0.0).margin(1e-12));
  std::vector<float> steep(100, -1e4f);
  steep[3] = 1e4f;
  const RowComparison self = code_and_compare(steep, steep, 3);
  CHECK(self.nll == Approx(0.0).margin(1e-12));
  CHECK(std::isfinite(self.kld));
}

TEST_CASE("a row with NaN is not coded and shows in its likelihood") {
  std::vector<float> row(10, 1.0f);
  row[4] = std::nanf("");
  std::vector<std::uint16_t> codes(row.size(), 9);
  CHECK_FALSE(std::isfinite(encode_row(row, 1, codes).nll));
  CHECK_FALSE(std::isfinite(negative_log_likelihood(row, 1)));
}

struct TemporaryFile {
  std::filesystem::path path = std::filesystem::temp_directory_path() / "cga_perplexity_base_test.bin";
  ~TemporaryFile() { std::filesystem::remove(path); }

  std::vector<char> read() const {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::vector<char>& bytes) const {
    std::ofstream out(path, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
};

constexpr std::int32_t n_vocab = 33;  // odd: rows need padding

struct Written {
  TemporaryFile file;
  ChunkPlan plan = plan_chunks({.n_ctx = 5}, 15);
  std::vector<TokenId> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 32};
  std::vector<float> logits;
  std::vector<TokenId> targets;
  std::vector<double> nll;

  Written() {
    const auto serial = [](std::int64_t n, auto&& body) {
      for (std::int64_t i = 0; i < n; ++i) body(i, 0);
    };
    for (std::int64_t row = 0; row < plan.n_rows(); ++row) {
      const auto values = random_row(n_vocab, static_cast<std::uint32_t>(row), 2.0f);
      logits.insert(logits.end(), values.begin(), values.end());
      targets.push_back(static_cast<TokenId>(row));
    }
    nll.resize(targets.size());
    BaseWriter writer(file.path, plan, n_vocab, "A model's name", tokens);
    writer.write_rows(logits, targets, nll, serial);
    CHECK_FALSE(std::filesystem::exists(file.path));  // nothing under the name before commit
    writer.commit();
  }
};

bool refused(const std::filesystem::path& path) {
  try {
    const BaseFile file(path);
    for (std::int64_t i = 0; i < file.plan().n_rows(); ++i) file.row(i);
  } catch (const Error& error) {
    return error.kind() == ErrorKind::bad_file;
  }
  return false;
}

TEST_CASE("a base file gives back what was written") {
  const Written written;
  const BaseFile file(written.file.path);
  CHECK(file.n_vocab() == n_vocab);
  CHECK(file.name() == "A model's name");
  CHECK(file.tokens() == written.tokens);
  CHECK(file.plan().n_chunks == written.plan.n_chunks);
  CHECK(file.plan().first_scored == written.plan.first_scored);
  for (std::int64_t i = 0; i < file.plan().n_rows(); ++i) {
    const BaseFile::Row row = file.row(i);
    const auto logits = std::span(written.logits).subspan(static_cast<std::size_t>(i * n_vocab), n_vocab);
    CHECK(row.head.nll == written.nll[static_cast<std::size_t>(i)]);
    CHECK(compare_row(logits, written.targets[static_cast<std::size_t>(i)], row.head, row.codes).kld ==
          Approx(0.0).margin(5e-8));
  }
}

TEST_CASE("every truncation of a base file is refused, and so are bytes too many") {
  const Written written;
  const std::vector<char> whole = written.file.read();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    written.file.write({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
    INFO("first " << size << " of " << whole.size() << " bytes");
    REQUIRE(refused(written.file.path));
  }
  std::vector<char> longer = whole;
  longer.push_back('\0');
  written.file.write(longer);
  CHECK(refused(written.file.path));
  written.file.write(whole);
  CHECK_FALSE(refused(written.file.path));
}

TEST_CASE("a header that lies is refused") {
  const Written written;
  const std::vector<char> whole = written.file.read();
  for (std::size_t field = 0; field < sizeof(BaseHeader); field += 4) {
    for (const std::uint32_t value : {0u, 3u, 0x7fffffffu, 0xffffffffu}) {
      std::vector<char> damaged = whole;
      std::memcpy(damaged.data() + field, &value, sizeof value);
      if (damaged == whole) continue;
      written.file.write(damaged);
      INFO("header byte " << field << " set to " << value);
      CHECK(refused(written.file.path));
    }
  }
}

TEST_CASE("tokens and rows that cannot be are refused") {
  const Written written;
  const std::vector<char> whole = written.file.read();
  const std::size_t tokens_at = sizeof(BaseHeader) + 16;
  const std::size_t rows_at = tokens_at + 64;
  const auto damage = [&](std::size_t at, auto value) {
    std::vector<char> damaged = whole;
    std::memcpy(damaged.data() + at, &value, sizeof value);
    written.file.write(damaged);
    return refused(written.file.path);
  };
  CHECK(damage(tokens_at, std::int32_t{n_vocab}));
  CHECK(damage(tokens_at, std::int32_t{-1}));
  CHECK(damage(rows_at, std::nan("")));
  CHECK(damage(rows_at + 8, -0.5f));
  CHECK(damage(rows_at + 12, std::int32_t{n_vocab}));
}

TEST_CASE("another text or vocabulary cannot be compared") {
  const Written written;
  const BaseFile file(written.file.path);
  std::vector<TokenId> longer = written.tokens;
  longer.push_back(5);
  file.require_match(n_vocab, longer);  // the run may have used a part of the text
  file.require_match(n_vocab, {});
  CHECK_THROWS_AS(file.require_match(n_vocab + 1, {}), Error);
  std::vector<TokenId> other = written.tokens;
  other[7] = 0;
  CHECK_THROWS_AS(file.require_match(n_vocab, other), Error);
  CHECK_THROWS_AS(file.require_match(n_vocab, std::span(written.tokens).first(9)), Error);
}

}  // namespace
}  // namespace cga::cli

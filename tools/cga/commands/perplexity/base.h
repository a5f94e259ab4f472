// The base file: a model's log-probabilities over a text, kept so that other runs (another weight type,
// another cache) can be compared with it. Little-endian, in this order:
//
//   BaseHeader
//   name     [name_bytes], the model's name, padded with zeros to a multiple of 8
//   tokens   [n_tokens], i32: the text as the chunks cover it
//   rows     [n_chunks * n_scored], each CodedRowHead, codes [n_vocab] u16, zeros to a multiple of 8
//
// The sizes follow from the header alone, so a file of any other size is refused before a row is read.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "base/mapped_file.h"
#include "tools/cga/commands/perplexity/plan.h"
#include "tools/cga/commands/perplexity/rows.h"

namespace cga::cli {

struct BaseHeader {
  char magic[8];
  std::uint32_t version = 0;
  std::uint32_t n_vocab = 0;
  std::uint32_t length = 0, step = 0, first_scored = 0, n_chunks = 0;  // the ChunkPlan
  std::uint32_t name_bytes = 0;
  std::uint32_t n_tokens_check = 0;  // the low half of n_tokens: catches a damaged plan
};
static_assert(sizeof(BaseHeader) == 40);

/// Bytes of one row in the file.
std::size_t base_row_bytes(std::int32_t n_vocab);

/// Writes a base file row by row; it appears under its name when commit() returns.
class BaseWriter {
 public:
  /// @param tokens  at least plan.n_tokens()
  /// @throws Error (io)
  BaseWriter(const std::filesystem::path& path, const ChunkPlan& plan, std::int32_t n_vocab,
             std::string_view name, std::span<const TokenId> tokens);

  /// Codes consecutive rows.  logits: [n_rows, n_vocab]; nll: [n_rows], out, uncoded. `parallel_for` is
  /// called as ThreadPool::parallel_for is.  @throws Error (io)
  template <class ParallelFor>
  void write_rows(std::span<const float> logits, std::span<const TokenId> targets, std::span<double> nll,
                  ParallelFor&& parallel_for);

  /// @throws Error (io)
  void commit();

 private:
  void encode(std::span<const float> logits, TokenId target, double& nll, std::byte* row) const;

  std::int32_t n_vocab_;
  AtomicFile file_;
  std::vector<std::byte> block_;  // [block_rows, row_bytes]
};

/// A base file, mapped and checked.
class BaseFile {
 public:
  /// @throws Error (io, bad_file) naming the field that is wrong
  explicit BaseFile(const std::filesystem::path& path);

  const ChunkPlan& plan() const { return plan_; }
  std::int32_t n_vocab() const { return n_vocab_; }
  const std::string& name() const { return name_; }
  const std::vector<TokenId>& tokens() const { return tokens_; }  // [plan().n_tokens()]

  struct Row {
    CodedRowHead head;
    std::span<const std::uint16_t> codes;  // [n_vocab]
  };
  /// Scored row `index` of the whole run. @throws Error (bad_file) if its head cannot be true
  Row row(std::int64_t index) const;

  /// Rows [first, first + n) are no longer needed in memory.
  void release_rows(std::int64_t first, std::int64_t n) const;

  /// @throws Error (bad_file) saying what differs, unless a model with this vocabulary and these tokens
  ///         (empty: not known) can be compared with the file
  void require_match(std::int32_t n_vocab, std::span<const TokenId> tokens) const;

 private:
  [[noreturn]] void refuse(std::string_view field, std::string_view problem) const;
  ChunkPlan read_plan(const BaseHeader& header) const;

  MappedFile file_;
  ChunkPlan plan_;
  std::int32_t n_vocab_ = 0;
  std::string name_;
  std::vector<TokenId> tokens_;
  std::size_t rows_offset_ = 0;
};

template <class ParallelFor>
void BaseWriter::write_rows(std::span<const float> logits, std::span<const TokenId> targets,
                            std::span<double> nll, ParallelFor&& parallel_for) {
  const auto width = static_cast<std::size_t>(n_vocab_);
  const std::size_t row_bytes = base_row_bytes(n_vocab_);
  const std::size_t block_rows = block_.size() / row_bytes;
  for (std::size_t first = 0; first < targets.size(); first += block_rows) {
    const std::size_t n = std::min(block_rows, targets.size() - first);
    parallel_for(static_cast<std::int64_t>(n), [&](std::int64_t i, int) {
      const std::size_t row = first + static_cast<std::size_t>(i);
      encode(logits.subspan(row * width, width), targets[row], nll[row],
             block_.data() + static_cast<std::size_t>(i) * row_bytes);
    });
    file_.write(std::span<const std::byte>(block_).first(n * row_bytes));
  }
}

}  // namespace cga::cli

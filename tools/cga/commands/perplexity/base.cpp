// Base files; see the header for the layout. A base file is input like any other: nothing in it is believed
// before it was checked.
#include "tools/cga/commands/perplexity/base.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/checked.h"
#include "cga/error.h"

namespace cga::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "base files are little-endian");

constexpr char magic[8] = {'c', 'g', 'a', '-', 'b', 'a', 's', 'e'};
constexpr std::uint32_t version = 1;
constexpr std::uint32_t max_count = 1u
                                    << 24;  // tokens of a chunk, chunks, vocabulary: sums of products fit i64
constexpr std::size_t max_name_bytes = 256;
constexpr std::size_t block_bytes = 8u << 20;  // rows coded in parallel and written at once

std::string padded(std::string_view name) {
  std::string text(name.substr(0, max_name_bytes));
  text.resize(round_up(text.size(), std::size_t{8}), '\0');
  return text;
}

}  // namespace

std::size_t base_row_bytes(std::int32_t n_vocab) {
  return round_up(sizeof(CodedRowHead) + static_cast<std::size_t>(n_vocab) * sizeof(std::uint16_t),
                  std::size_t{8});
}

BaseWriter::BaseWriter(const std::filesystem::path& path, const ChunkPlan& plan, std::int32_t n_vocab,
                       std::string_view name, std::span<const TokenId> tokens)
    : n_vocab_(n_vocab), file_(path) {
  const std::size_t row_bytes = base_row_bytes(n_vocab);
  block_.resize(std::max(block_bytes / row_bytes, std::size_t{1}) * row_bytes);  // the padding stays zero
  const std::string name_field = padded(name);
  BaseHeader header;
  std::copy(std::begin(magic), std::end(magic), header.magic);
  header.version = version;
  header.n_vocab = static_cast<std::uint32_t>(n_vocab);
  header.length = static_cast<std::uint32_t>(plan.length);
  header.step = static_cast<std::uint32_t>(plan.step);
  header.first_scored = static_cast<std::uint32_t>(plan.first_scored);
  header.n_chunks = static_cast<std::uint32_t>(plan.n_chunks);
  header.name_bytes = static_cast<std::uint32_t>(name_field.size());
  header.n_tokens_check = static_cast<std::uint32_t>(plan.n_tokens());
  file_.write(std::as_bytes(std::span(&header, 1)));
  file_.write(name_field);
  file_.write(std::as_bytes(tokens.first(static_cast<std::size_t>(plan.n_tokens()))));
  if (plan.n_tokens() % 2 != 0)
    file_.write(std::string_view("\0\0\0\0", 4));  // rows begin at a multiple of 8
}

void BaseWriter::encode(std::span<const float> logits, TokenId target, double& nll, std::byte* row) const {
  // The block is 8-byte aligned, and so are its rows: the codes can be written where they belong.
  auto* codes = reinterpret_cast<std::uint16_t*>(row + sizeof(CodedRowHead));
  const CodedRowHead head = encode_row(logits, target, {codes, logits.size()});
  std::memcpy(row, &head, sizeof head);
  nll = head.nll;
}

void BaseWriter::commit() {
  file_.commit();
}

BaseFile::BaseFile(const std::filesystem::path& path) : file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  BaseHeader header;
  if (bytes.size() < sizeof header) refuse("header", "the file ends inside it");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, magic, sizeof magic) != 0) refuse("magic", "this is no base file");
  if (header.version != version) {
    refuse("version", std::to_string(header.version) + ", expected " + std::to_string(version));
  }
  if (header.n_vocab < 1 || header.n_vocab > max_count) refuse("n_vocab", std::to_string(header.n_vocab));
  if (header.name_bytes > max_name_bytes || header.name_bytes % 8 != 0) {
    refuse("name_bytes", std::to_string(header.name_bytes));
  }
  n_vocab_ = static_cast<std::int32_t>(header.n_vocab);
  plan_ = read_plan(header);

  const std::size_t name_offset = sizeof header;
  const std::size_t tokens_offset = name_offset + header.name_bytes;
  const auto n_tokens = static_cast<std::size_t>(plan_.n_tokens());
  rows_offset_ = tokens_offset + round_up(n_tokens * sizeof(TokenId), std::size_t{8});
  const std::optional<std::size_t> row_bytes =
      checked_mul(static_cast<std::size_t>(plan_.n_rows()), base_row_bytes(n_vocab_));
  const std::optional<std::size_t> size = row_bytes ? checked_add(rows_offset_, *row_bytes) : std::nullopt;
  if (!size || *size != bytes.size()) {
    refuse("size",
           std::to_string(bytes.size()) + " bytes, expected " + (size ? std::to_string(*size) : "more"));
  }
  const char* name = reinterpret_cast<const char*>(bytes.data() + name_offset);
  name_.assign(name, std::find(name, name + header.name_bytes, '\0'));
  tokens_.resize(n_tokens);
  std::memcpy(tokens_.data(), bytes.data() + tokens_offset, n_tokens * sizeof(TokenId));
  for (const TokenId id : tokens_) {
    if (id < 0 || id >= n_vocab_)
      refuse("tokens", "token " + std::to_string(id) + " is outside the vocabulary");
  }
}

ChunkPlan BaseFile::read_plan(const BaseHeader& header) const {
  const auto in_range = [](std::uint32_t value, std::uint32_t low, std::uint32_t high) {
    return value >= low && value <= high;
  };
  if (!in_range(header.length, 2, max_count)) refuse("length", std::to_string(header.length));
  if (!in_range(header.step, 1, header.length)) refuse("step", std::to_string(header.step));
  if (header.first_scored > header.length - 2) refuse("first_scored", std::to_string(header.first_scored));
  if (!in_range(header.n_chunks, 1, max_count)) refuse("n_chunks", std::to_string(header.n_chunks));
  ChunkPlan plan;
  plan.length = static_cast<std::int32_t>(header.length);
  plan.step = static_cast<std::int32_t>(header.step);
  plan.first_scored = static_cast<std::int32_t>(header.first_scored);
  plan.n_chunks = static_cast<std::int32_t>(header.n_chunks);
  if (static_cast<std::uint32_t>(plan.n_tokens()) != header.n_tokens_check) {
    refuse("n_tokens",
           "the chunks cover " + std::to_string(plan.n_tokens()) + " tokens, not what was written");
  }
  return plan;
}

BaseFile::Row BaseFile::row(std::int64_t index) const {
  const std::byte* at =
      file_.bytes().data() + rows_offset_ + static_cast<std::size_t>(index) * base_row_bytes(n_vocab_);
  Row out;
  std::memcpy(&out.head, at, sizeof out.head);
  out.codes = {reinterpret_cast<const std::uint16_t*>(at + sizeof out.head),
               static_cast<std::size_t>(n_vocab_)};
  const bool sane = std::isfinite(out.head.nll) && out.head.step >= 0.0f && out.head.step <= 1.0f &&
                    out.head.top >= 0 && out.head.top < n_vocab_;
  if (!sane) refuse("row " + std::to_string(index), "its numbers are out of range");
  return out;
}

void BaseFile::release_rows(std::int64_t first, std::int64_t n) const {
  const std::size_t row_bytes = base_row_bytes(n_vocab_);
  file_.release(file_.bytes().subspan(rows_offset_ + static_cast<std::size_t>(first) * row_bytes,
                                      static_cast<std::size_t>(n) * row_bytes));
}

void BaseFile::require_match(std::int32_t n_vocab, std::span<const TokenId> tokens) const {
  if (n_vocab != n_vocab_) {
    refuse("n_vocab", std::to_string(n_vocab_) + ", and the model has " + std::to_string(n_vocab));
  }
  if (tokens.empty()) return;
  if (tokens.size() < tokens_.size()) {
    refuse("tokens",
           std::to_string(tokens_.size()) + ", and the text has only " + std::to_string(tokens.size()));
  }
  const auto [ours, theirs] = std::mismatch(tokens_.begin(), tokens_.end(), tokens.begin());
  if (ours == tokens_.end()) return;
  refuse("tokens", "token " + std::to_string(ours - tokens_.begin()) + " is " + std::to_string(*ours) +
                       ", and in the text it is " + std::to_string(*theirs));
}

void BaseFile::refuse(std::string_view field, std::string_view problem) const {
  throw Error(ErrorKind::bad_file, file_.path().string() + ": " + std::string(field), problem,
              "write it again with --save-base, from the same text and vocabulary");
}

}  // namespace cga::cli

// Rates, bytes and their rendering.
#include "tools/cga/stats.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <bit>

#include "tools/cga/console.h"

namespace cga::cli {

std::uint64_t hash_bits(std::span<const float> values) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const float value : values) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) hash = (hash ^ ((bits >> shift) & 0xffu)) * 0x100000001b3u;
  }
  return hash;
}

void RunStats::add(const RunStats& other) {
  prompt_tokens += other.prompt_tokens;
  reused_tokens += other.reused_tokens;
  prompt_seconds += other.prompt_seconds;
  decode_steps += other.decode_steps;
  decode_bytes += other.decode_bytes;
  decode_seconds += other.decode_seconds;
  generated_tokens += other.generated_tokens;
  n_past = other.n_past;
  if (other.logits_hash) logits_hash = other.logits_hash;
}

double RunStats::prompt_rate() const {
  return prompt_seconds > 0 ? static_cast<double>(prompt_tokens) / prompt_seconds : 0;
}

double RunStats::decode_rate() const {
  return decode_seconds > 0 ? static_cast<double>(decode_steps) / decode_seconds : 0;
}

double RunStats::decode_bandwidth() const {
  return decode_seconds > 0 ? static_cast<double>(decode_bytes) / decode_seconds : 0;
}

std::string kv_text(const Engine& engine, std::int32_t n_tokens) {
  const KvUsage kv = engine.kv_usage(n_tokens);
  if (engine.options().kv != KvType::cga) {
    return fmt::format("KV {} (bf16: {})", format_bytes(kv.total()), format_bytes(kv.bf16));
  }
  const std::int64_t codec = engine.plan().transform;
  const auto part = [](std::string_view name, std::int64_t bytes) {
    return bytes > 0 ? fmt::format(", {} {}", name, format_bytes(bytes)) : std::string();
  };
  const auto ratio = [&](std::int64_t bytes) {
    return static_cast<double>(kv.bf16) / static_cast<double>(std::max<std::int64_t>(bytes, 1));
  };
  return fmt::format(
      "KV {}: archive {}, exact {}, residents {}{}{}; bf16 {} ({:.2f}x, with the codec's {} {:.2f}x); "
      "scratch {}",
      format_bytes(kv.total()), format_bytes(kv.archive), format_bytes(kv.exact), format_bytes(kv.residents),
      part("index", kv.index), part("kept for going back", kv.kept), format_bytes(kv.bf16), ratio(kv.total()),
      format_bytes(codec), ratio(kv.total() + codec), format_bytes(engine.plan().scratch));
}

std::string reuse_text(const Engine& engine) {
  const KvReuse reuse = engine.kv_reuse();
  if (reuse.choices == 0) return "";
  const auto each = [&](std::int64_t n) {
    return static_cast<double>(n) / static_cast<double>(reuse.choices);
  };
  const double hits =
      1 - static_cast<double>(reuse.decoded) / static_cast<double>(std::max<std::int64_t>(reuse.needed, 1));
  return fmt::format(
      "of the archive a query read {:.1f} of {:.1f} units of 16 tokens in each selection group; {:.2f} were "
      "decoded for it, "
      "{:.1f} % were resident; {} of codes and {} of index keys were read in all",
      each(reuse.chosen), each(reuse.eligible), each(reuse.decoded), 100 * hits,
      format_bytes(reuse.decoded_bytes), format_bytes(reuse.index_bytes));
}

std::string stats_line(const Engine& engine, const RunStats& stats) {
  std::string line = fmt::format("prompt {} tokens", format_count(stats.prompt_tokens));
  if (stats.reused_tokens > 0) line += fmt::format(" (and {} reused)", format_count(stats.reused_tokens));
  if (stats.prompt_tokens > 0) line += fmt::format(", {:.1f} tokens/s", stats.prompt_rate());
  line += fmt::format("; generated {}", format_count(stats.generated_tokens));
  if (stats.decode_steps > 0) {
    const double peak = engine.measure_bandwidth();
    line += fmt::format(", {:.1f} tokens/s, {:.1f} GB/s ({:.0f} % of {:.1f} GB/s)", stats.decode_rate(),
                        stats.decode_bandwidth() / 1e9, 100 * stats.decode_bandwidth() / peak, peak / 1e9);
  }
  line += "; " + kv_text(engine, stats.n_past);
  if (stats.logits_hash) line += fmt::format("; logits {:016x}", *stats.logits_hash);
  return line;
}

}  // namespace cga::cli

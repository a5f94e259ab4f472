// Rates, bytes and their rendering.
#include "tools/cga/stats.h"

#include <spdlog/fmt/fmt.h>

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

KvBytes kv_bytes(const Engine& engine, std::int32_t n_past) {
  // A decode step reads the weights and the cache; what it reads more than at the start is the cache.
  const MemoryPlan& plan = engine.plan();
  const std::int64_t used = engine.decode_bytes(n_past) - engine.decode_bytes(0);
  const double ratio = plan.kv > 0 ? static_cast<double>(plan.kv_bf16) / static_cast<double>(plan.kv) : 1.0;
  return {used, static_cast<std::int64_t>(static_cast<double>(used) * ratio)};
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
  const KvBytes kv = kv_bytes(engine, stats.n_past);
  line += fmt::format("; KV {} (bf16: {})", format_bytes(kv.used), format_bytes(kv.as_bf16));
  if (stats.logits_hash) line += fmt::format("; logits {:016x}", *stats.logits_hash);
  return line;
}

}  // namespace cga::cli

#include "tools/cga/commands/inspect/sidecar.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>

#include "tools/cga/console.h"

namespace cga::cli {
namespace {

std::string layers_of(const SidecarDescription::Group& group) {
  return fmt::format("{}-{}", group.first_layer, group.first_layer + group.n_layers - 1);
}

/// Share of the variance in the first 2^k components.
std::string spectrum_at(const SidecarDescription::Group& group, std::size_t k) {
  return k < group.spectrum.size() ? fmt::format("{:.1f} %", 100 * group.spectrum[k]) : "";
}

std::string groups_text(const SidecarDescription& sidecar) {
  constexpr std::array<std::size_t, 4> powers{0, 3, 6, 9};
  std::string text = fmt::format("{:>8} {:>9} {:>11} {:>7}   variance in the first", "layers", "channels",
                                 "components", "16-bit");
  for (const std::size_t k : powers) text += fmt::format(" {:>7}", 1 << k);
  text += "\n";
  for (const SidecarDescription::Group& group : sidecar.groups) {
    text += fmt::format("{:>8} {:>9} {:>11} {:>7} {:>23}", layers_of(group), format_count(group.n_channels),
                        format_count(group.n_components), group.n_wide, "");
    for (const std::size_t k : powers) text += fmt::format(" {:>7}", spectrum_at(group, k));
    text += "\n";
  }
  return text;
}

std::string rates_text(const SidecarDescription& sidecar) {
  std::string text = fmt::format("{:>8} {:>39}   {:>11} {:>17}\n", "bits", "components with 8, 4, 2, 1 bits",
                                 "bytes/token", "smaller than bf16");
  for (const SidecarDescription::Rate& rate : sidecar.rates) {
    text += fmt::format("{:>8} {:>9} {:>9} {:>9} {:>9}   {:>11} {:>16.1f}x\n", rate.bits, rate.eight,
                        rate.four, rate.two, rate.one, format_count(rate.token_bytes),
                        static_cast<double>(rate.token_bf16_bytes) /
                            static_cast<double>(std::max<std::int64_t>(rate.token_bytes, 1)));
  }
  return text;
}

std::string quality_text(const SidecarDescription& sidecar) {
  if (sidecar.quality.empty()) return "";
  std::string text = fmt::format("\n{:24} {:>8} {:>6} {:>9} {:>11} {:>8}\n", "text", "tokens", "bits", "KL",
                                 "perplexity", "top-1");
  for (const SidecarDescription::Quality& row : sidecar.quality) {
    text += fmt::format("{:24.24} {:>8} {:>6} {:>9.5f} {:>+9.2f} % {:>6.2f} %\n", row.text,
                        format_count(row.tokens), row.bits, row.kl, 100 * row.ppl_change, 100 * row.top1);
  }
  return text + "(measured when it was made; 16 bits: exact keys and values, the floor of arithmetic)\n";
}

std::string adapters_text(const SidecarDescription& sidecar) {
  if (sidecar.adapter_rank == 0) return "";
  return fmt::format("\nadapters: rank {}, {}, for queries that leave something unread\n",
                     sidecar.adapter_rank, format_bytes(sidecar.adapter_bytes));
}

std::string index_text(const SidecarDescription& sidecar) {
  const SidecarDescription::Index& index = sidecar.index;
  if (index.anchors.empty()) return "\nno index: everything archived is read\n";
  std::string text =
      fmt::format("\nindex: {} heads of {} channels at {} anchors, {}, {} bytes a token; layers", index.heads,
                  index.width, index.anchors.size(), format_bytes(index.bytes), index.token_bytes);
  for (const auto& anchor : index.anchors) {
    text += fmt::format(" {}-{}", anchor.first_layer, anchor.first_layer + anchor.n_layers - 1);
  }
  text +=
      index.by_need ? "\nqueries read as much as they need, the budget on the mean (--kv-by-need)\n" : "\n";
  if (index.quality.empty()) return text;
  text += fmt::format("\n{:24} {:>8} {:>6} {:>8} {:>7} {:>8} {:>9} {:>11} {:>8}\n", "text", "tokens", "bits",
                      "choice", "budget", "recall", "KL", "perplexity", "top-1");
  for (const auto& row : index.quality) {
    text += fmt::format("{:24.24} {:>8} {:>6} {:>8} {:>7} {:>6.1f} % {:>9.5f} {:>+9.2f} % {:>6.2f} %\n",
                        row.text, format_count(row.tokens), row.bits, row.select, format_count(row.budget),
                        100 * row.recall, row.kl, 100 * row.ppl_change, 100 * row.top1);
  }
  return text;
}

nlohmann::ordered_json index_json(const SidecarDescription::Index& index) {
  using Json = nlohmann::ordered_json;
  if (index.anchors.empty()) return nullptr;
  Json anchors = Json::array(), quality = anchors;
  for (const auto& anchor : index.anchors) {
    anchors.push_back({{"first_layer", anchor.first_layer},
                       {"n_layers", anchor.n_layers},
                       {"key_layers", anchor.n_key_layers}});
  }
  for (const auto& row : index.quality) {
    quality.push_back({{"text", row.text},
                       {"tokens", row.tokens},
                       {"select", row.select},
                       {"budget", row.budget},
                       {"kv_bits", row.bits},
                       {"recall", row.recall},
                       {"kl", row.kl},
                       {"ppl_change", row.ppl_change},
                       {"top1", row.top1}});
  }
  return {{"heads", index.heads},     {"width", index.width},
          {"bytes", index.bytes},     {"token_bytes", index.token_bytes},
          {"by_need", index.by_need}, {"anchors", anchors},
          {"quality", quality}};
}

}  // namespace

std::string sidecar_text(const SidecarDescription& sidecar, const std::string& path) {
  std::int64_t tokens = 0;
  for (const auto& [text, n] : sidecar.calibration) tokens += n;
  return fmt::format("\n{}: {}, made by {} from {} tokens of {} texts\n", path,
                     format_bytes(sidecar.file_bytes), sidecar.tool, format_count(tokens),
                     sidecar.calibration.size()) +
         fmt::format("defaults: {} bits a value, window {}, exact up to {} tokens\n\n", sidecar.kv_bits,
                     format_count(sidecar.kv_window), format_count(sidecar.kv_sparse_from)) +
         groups_text(sidecar) + "\n" + rates_text(sidecar) + quality_text(sidecar) + index_text(sidecar) +
         adapters_text(sidecar);
}

nlohmann::ordered_json sidecar_json(const SidecarDescription& sidecar, const std::string& path) {
  using Json = nlohmann::ordered_json;
  Json groups = Json::array(), rates = groups, calibration = groups, quality = groups;
  for (const auto& group : sidecar.groups) {
    groups.push_back({{"first_layer", group.first_layer},
                      {"n_layers", group.n_layers},
                      {"channels", group.n_channels},
                      {"components", group.n_components},
                      {"wide_components", group.n_wide},
                      {"spectrum", group.spectrum}});
  }
  for (const auto& rate : sidecar.rates) {
    rates.push_back({{"bits", rate.bits},
                     {"components_8", rate.eight},
                     {"components_4", rate.four},
                     {"components_2", rate.two},
                     {"components_1", rate.one},
                     {"token_bytes", rate.token_bytes},
                     {"token_bf16_bytes", rate.token_bf16_bytes}});
  }
  for (const auto& [text, tokens] : sidecar.calibration)
    calibration.push_back({{"text", text}, {"tokens", tokens}});
  for (const auto& row : sidecar.quality) {
    quality.push_back({{"text", row.text},
                       {"tokens", row.tokens},
                       {"kv_bits", row.bits},
                       {"kl", row.kl},
                       {"ppl_change", row.ppl_change},
                       {"top1", row.top1}});
  }
  return {{"file", path},
          {"bytes", sidecar.file_bytes},
          {"transform_bytes", sidecar.transform_bytes},
          {"tool", sidecar.tool},
          {"fingerprint", sidecar.fingerprint},
          {"defaults",
           {{"kv_bits", sidecar.kv_bits},
            {"kv_window", sidecar.kv_window},
            {"kv_sparse_from", sidecar.kv_sparse_from}}},
          {"groups", groups},
          {"rates", rates},
          {"calibration", calibration},
          {"quality", quality},
          {"index", index_json(sidecar.index)},
          {"adapter_rank", sidecar.adapter_rank},
          {"adapter_bytes", sidecar.adapter_bytes}};
}

}  // namespace cga::cli

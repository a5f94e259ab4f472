#include "runtime/compact_setup.h"

#include <algorithm>
#include <string>

#include "cga/codec_plan.h"
#include "cga/inspect.h"

namespace cga {
namespace {

/// For models without a sidecar's table, and for what the table does not name.
constexpr SidecarMetadata::Defaults plain_defaults{.kv_bits = 1.5, .kv_window = 1024, .kv_sparse_from = 2048};
constexpr std::int32_t default_residents = 2048;

BaseModel base_model(const Family& family, const Hparams& hparams) {
  const AttentionShape& attention = hparams.attention;
  return {.architecture = std::string(family.architecture),
          .n_layers = hparams.n_layers,
          .n_heads = attention.n_heads,
          .n_kv_heads = attention.n_kv_heads,
          .head_dim = attention.head_dim,
          .dim = hparams.dim,
          .rope_theta = hparams.rope_base,
          .rope_magnitude = 1.0};
}

bool sets_cga_options(const EngineOptions& options) {
  return !options.sidecar.empty() || options.kv_bits != 0 || options.kv_window >= 0 ||
         options.kv_sparse_from >= 0 || options.kv_residents >= 0;
}

void require(bool holds, const char* option, const std::string& found, const char* expected) {
  if (!holds) throw Error(ErrorKind::usage, option, "found " + found + ", expected " + expected);
}

}  // namespace

std::optional<Sidecar> find_sidecar(const EngineOptions& options, const ModelFile& file, const Family& family,
                                    const Hparams& hparams) {
  const bool wanted = options.kv == KvType::cga;
  if (!wanted && options.kv != KvType::automatic) return std::nullopt;
  if (!options.sidecar.empty()) {
    Sidecar sidecar(options.sidecar);
    sidecar.require_match(file, base_model(family, hparams));
    return sidecar;
  }
  const std::filesystem::path beside = sidecar_beside(options.model);
  std::error_code ignored;
  const bool found = options.shape.empty() && std::filesystem::exists(beside, ignored);
  const auto none = [&](const std::string& why) -> std::optional<Sidecar> {
    if (!wanted && !sets_cga_options(options)) return std::nullopt;
    throw Error(ErrorKind::usage, "--kv cga", why,
                "make a sidecar with tools/adapt, name one with --cga, or use --kv bf16");
  };
  if (!found) {
    return none(options.shape.empty() ? "there is no sidecar " + beside.string()
                                      : "random weights have no sidecar");
  }
  Sidecar sidecar(beside);
  const std::string mismatch = sidecar.mismatch(file, base_model(family, hparams));
  if (mismatch.empty()) return sidecar;
  const std::string problem = beside.string() + " does not belong to the model (" + mismatch + ")";
  if (options.warn) options.warn(problem + "; it is not used");
  return none(problem);
}

void resolve_kv_options(EngineOptions& options, const Sidecar* sidecar) {
  if (options.kv == KvType::automatic) {
    // A context that stays exact anyway needs no codec.
    const bool stays_exact = sidecar != nullptr && !sets_cga_options(options) &&
                             options.n_ctx <= sidecar->metadata().defaults.kv_sparse_from;
    options.kv = sidecar != nullptr && !stays_exact ? KvType::cga : KvType::bf16;
  }
  if (options.kv != KvType::cga) {
    require(!sets_cga_options(options), "--kv", "settings of cga beside another kind of cache", "--kv cga");
    return;
  }
  const SidecarMetadata::Defaults defaults =
      sidecar != nullptr ? sidecar->metadata().defaults : plain_defaults;
  if (options.kv_bits == 0) options.kv_bits = defaults.kv_bits;
  if (options.kv_window < 0) options.kv_window = static_cast<std::int32_t>(defaults.kv_window);
  if (options.kv_sparse_from < 0) options.kv_sparse_from = static_cast<std::int32_t>(defaults.kv_sparse_from);
  if (options.kv_residents < 0) options.kv_residents = default_residents;

  constexpr std::int32_t most = 1 << 26;
  const auto is_pages = [](std::int32_t tokens) { return tokens <= most && tokens % page_tokens == 0; };
  require(options.kv_bits > 0 && options.kv_bits <= 8, "--kv-bits", std::to_string(options.kv_bits),
          "a number above 0, at most 8");
  require(is_pages(options.kv_window), "--kv-window", std::to_string(options.kv_window), "a multiple of 64");
  require(is_pages(options.kv_sparse_from), "--kv-sparse-from", std::to_string(options.kv_sparse_from),
          "a multiple of 64");
  require(options.kv_residents <= most, "--kv-residents", std::to_string(options.kv_residents),
          "at most 67108864");
}

CompactSettings compact_settings(const EngineOptions& options) {
  return {options.kv_bits, {options.kv_window, options.kv_sparse_from}, options.kv_residents};
}

std::vector<GroupSize> group_sizes(const Sidecar& sidecar, double bits) {
  std::vector<GroupSize> sizes;
  for (const LayerGroup& group : sidecar.groups()) {
    sizes.push_back({group.n_layers, group.transform, plan_layout(group.transform, bits).page_bytes()});
  }
  return sizes;
}

std::vector<GroupSize> assumed_group_sizes(const Hparams& hparams, double bits) {
  // As tools/adapt would choose: about 4,096 channels and at least 4 layers a group; 0.6 of the components
  // are live at 2 bits a value, and 1 in 30 of these has its basis in 16 bits.
  const std::int64_t layer_channels = 2 * hparams.attention.kv_dim();
  const std::int64_t wanted = std::max<std::int64_t>(4, 4096 / layer_channels);
  const std::int64_t n_groups = div_up<std::int64_t>(hparams.n_layers, wanted);
  std::vector<GroupSize> sizes;
  for (std::int64_t g = 0; g < n_groups; ++g) {
    const std::int64_t n_layers = hparams.n_layers * (g + 1) / n_groups - hparams.n_layers * g / n_groups;
    LatentView view;
    view.n = n_layers * layer_channels;
    view.m = round_up<std::int64_t>(view.n * 6 / 10, block_components);
    view.w = round_up<std::int64_t>(view.m / 30, block_components);
    const auto token_bits = static_cast<std::int64_t>(bits * static_cast<double>(view.n));
    sizes.push_back({static_cast<std::int32_t>(n_layers), view,
                     token_bits / block_components * block_components * page_tokens / 8});
  }
  return sizes;
}

}  // namespace cga

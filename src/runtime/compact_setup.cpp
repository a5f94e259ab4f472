#include "runtime/compact_setup.h"

#include <algorithm>
#include <string>

#include "cga/codec_plan.h"
#include "cga/inspect.h"
#include "tensor/index_layout.h"

namespace cga {
namespace {

/// For models without a sidecar's table, and for what the table does not name.
constexpr SidecarMetadata::Defaults plain_defaults{
    .kv_bits = 1.5, .kv_window = 1024, .kv_sparse_from = 2048, .kv_budget = 1024};
constexpr std::int32_t default_residents = 4096;
constexpr std::int32_t default_followup_from = 64;
/// A unit gives way to one that is expected to hold 1.65 times as much of the attention.
constexpr float default_inertia = 0.5f;

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
         options.kv_sparse_from >= 0 || options.kv_residents >= 0 || options.kv_budget >= 0 ||
         options.kv_by_need >= 0 || options.kv_refresh >= 0 || options.kv_inertia >= 0 ||
         options.kv_followup_from >= 0 || options.kv_select != KvSelect::automatic;
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

namespace {

/// What is chosen from the archive, and what is kept of it.
void resolve_selection(EngineOptions& options, const Sidecar* sidecar) {
  const bool has_index = sidecar != nullptr && !sidecar->select_groups().empty();
  if (options.kv_select == KvSelect::automatic) {
    options.kv_select = has_index ? KvSelect::index : KvSelect::all;
  }
  if (options.kv_select == KvSelect::index && sidecar != nullptr && !has_index) {
    throw Error(ErrorKind::usage, "--kv-select index",
                "the sidecar " + sidecar->path().string() + " has no index",
                "train one with tools/adapt (--stage index), or use --kv-select all");
  }
  const std::int64_t named = sidecar != nullptr ? sidecar->metadata().defaults.kv_budget : 0;
  const std::int64_t budget = named != 0 ? named : plain_defaults.kv_budget;
  if (options.kv_budget < 0) options.kv_budget = static_cast<std::int32_t>(budget);
  const bool knows_need = has_index && sidecar->select_groups().front().need != nullptr;
  const bool may_need = options.kv_select == KvSelect::index && (sidecar == nullptr || knows_need);
  if (options.kv_by_need < 0) options.kv_by_need = may_need && knows_need ? 1 : 0;
  if (options.kv_by_need > 0 && !may_need) {
    throw Error(ErrorKind::usage, "--kv-by-need on", "there is no index that knows what queries need",
                "find it out with tools/adapt (--stage need), or leave it out");
  }
  if (options.kv_refresh < 0) options.kv_refresh = 1;
  if (options.kv_inertia < 0) options.kv_inertia = options.kv_select == KvSelect::index ? default_inertia : 0;
  if (options.kv_followup_from < 0) options.kv_followup_from = default_followup_from;
  // What is chosen now and what was chosen a while ago.
  const bool chooses = options.kv_select != KvSelect::all;
  if (options.kv_residents < 0) options.kv_residents = chooses ? 4 * options.kv_budget : default_residents;
}

}  // namespace

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
  resolve_selection(options, sidecar);

  constexpr std::int32_t most = 1 << 26;
  const auto is_pages = [](std::int32_t tokens) { return tokens <= most && tokens % page_tokens == 0; };
  require(options.kv_bits > 0 && options.kv_bits <= 8, "--kv-bits", std::to_string(options.kv_bits),
          "a number above 0, at most 8");
  require(is_pages(options.kv_window), "--kv-window", std::to_string(options.kv_window), "a multiple of 64");
  require(is_pages(options.kv_sparse_from), "--kv-sparse-from", std::to_string(options.kv_sparse_from),
          "a multiple of 64");
  require(
      options.kv_budget >= unit_tokens && options.kv_budget <= most && options.kv_budget % unit_tokens == 0,
      "--kv-budget", std::to_string(options.kv_budget), "a multiple of 16, at least 16");
  const std::int32_t refresh = options.kv_refresh;
  require(refresh >= 1 && page_tokens % refresh == 0, "--kv-refresh", std::to_string(refresh),
          "1, 2, 4, 8, 16, 32 or 64");
  require(options.kv_residents <= most, "--kv-residents", std::to_string(options.kv_residents),
          "at most 67108864");
}

CompactSettings compact_settings(const EngineOptions& options) {
  Selection selection = Selection::all;
  if (options.kv_select == KvSelect::index) selection = Selection::index;
  if (options.kv_select == KvSelect::oracle) selection = Selection::oracle;
  return {.bits = options.kv_bits,
          .rule = {options.kv_window, options.kv_sparse_from},
          .residents = options.kv_residents,
          .selection = selection,
          .budget = options.kv_budget,
          .keeps_marked = options.keeps_marked,
          .refresh = options.kv_refresh,
          .by_need = options.kv_by_need > 0,
          .inertia = options.kv_inertia};
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

IndexSize index_size(const Hparams& hparams, const Sidecar* sidecar) {
  if (sidecar != nullptr) {
    const auto n_anchors = static_cast<std::int64_t>(sidecar->select_groups().size());
    return {n_anchors * IndexLayout{sidecar->metadata().index.width}.page_bytes(), sidecar->index_bytes()};
  }
  // An anchor for every 4 layers, with 12 heads of 32 channels, and keys of all layers it serves.
  constexpr std::int64_t heads = 12;
  constexpr IndexLayout layout{32};
  const std::int64_t n_anchors = div_up(hparams.n_layers, 4);
  const std::int64_t rows =
      n_anchors * heads * (layout.width + 1) + std::int64_t{hparams.n_layers} * layout.width;
  return {n_anchors * layout.page_bytes(), 2 * rows * hparams.dim + 4 * n_anchors * heads};
}

}  // namespace cga

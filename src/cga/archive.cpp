#include "cga/archive.h"

#include <algorithm>
#include <array>

#include "cga/codec_plan.h"

namespace cga {
namespace {

/// Pages that are coded in one call: what the kernels share an expansion of the basis among.
constexpr std::int32_t slab_pages = 4;
constexpr std::int64_t slab_tokens = std::int64_t{slab_pages} * page_tokens;

}  // namespace

std::int64_t Archive::scratch_bytes(std::int64_t n_channels, std::int32_t n_layers, std::int32_t head_dim) {
  // Units of a single layer are narrow rows: as many as fill the same buffer.
  const std::int64_t most_units = slab_tokens / unit_tokens * n_layers;
  return (slab_tokens * n_channels + most_units * head_dim) * static_cast<std::int64_t>(sizeof(float));
}

Archive::Archive(Backend& backend, const Sidecar& sidecar, double bits, const KeyFrame& frame,
                 std::int32_t n_pages)
    : backend_(backend), frame_(frame), pool_(n_pages) {
  std::int64_t channels = 0;
  std::int32_t most_layers = 0;
  for (const LayerGroup& from : sidecar.groups()) {
    Group group;
    group.layers = {from.first_layer, from.first_layer + from.n_layers};
    group.latent = backend.ops().prepare_latent(from.transform);
    group.transform_bytes = backend.ops().prepared_latent_bytes(from.transform);
    group.layout = plan_layout(from.transform, bits);
    group.coded = backend.allocate(static_cast<std::size_t>(group.layout.page_bytes() * n_pages), "archive");
    channels = std::max(channels, from.transform.n);
    most_layers = std::max(most_layers, from.n_layers);
    groups_.push_back(std::move(group));
  }
  x_floats_ = slab_tokens * channels;
  x_ = backend.allocate(static_cast<std::size_t>(x_floats_) * sizeof(float), "latent channels");
  const std::int64_t most_units = slab_tokens / unit_tokens * most_layers;
  cos_sin_ = backend.allocate(static_cast<std::size_t>(most_units * frame.head_dim) * sizeof(float),
                              "rotations of pages");
}

std::int32_t Archive::group_of(std::int32_t layer) const {
  std::int32_t g = 0;
  while (layer >= layers(g).last) ++g;
  return g;
}

std::int64_t Archive::page_bytes() const {
  std::int64_t bytes = 0;
  for (const Group& group : groups_) bytes += group.layout.page_bytes();
  return bytes;
}

std::int64_t Archive::transform_bytes() const {
  std::int64_t bytes = 0;
  for (const Group& group : groups_) bytes += group.transform_bytes;
  return bytes;
}

const float* Archive::angles(std::span<const std::int32_t> numbers) {
  positions_.clear();
  for (const std::int32_t number : numbers) positions_.push_back(number * page_tokens);
  backend_.ops().rope_angles(cos_sin_->as<float>(), positions_, frame_.inverse_frequency, 1.0f);
  return cos_sin_->as<float>();
}

void Archive::seal(std::int32_t group, std::span<const LayerPages> layers,
                   std::span<const SealedPage> pages) {
  const Group& g = groups_[static_cast<std::size_t>(group)];
  Ops& ops = backend_.ops();
  for (std::size_t at = 0; at < pages.size(); at += slab_pages) {
    const auto slab = pages.subspan(at, std::min<std::size_t>(slab_pages, pages.size() - at));
    exact_.clear(), coded_.clear(), places_.clear();
    for (const SealedPage& page : slab) {
      exact_.push_back(page.exact);
      coded_.push_back(page.coded);
      places_.push_back(page.number);
    }
    ops.gather_pages({.frame = {layers, frame_.pairs, 1.0f},
                      .pages = exact_,
                      .cos_sin = angles(places_),
                      .x = x_->as<float>()});
    ops.encode_pages({.latent = g.latent.get(),
                      .layout = &g.layout,
                      .x = x_->as<float>(),
                      .coded = g.coded->data(),
                      .pages = coded_});
  }
}

void Archive::open(std::int32_t group, LayerRange range, std::span<const LayerPages> layers,
                   std::span<const OpenedUnit> units) {
  const Group& g = groups_[static_cast<std::size_t>(group)];
  Ops& ops = backend_.ops();
  // The keys of the wanted layers, then their values: the order that scatter_units takes.
  const std::int64_t width = std::int64_t{range.size()} * frame_.kv_dim;
  const std::int64_t first_key = std::int64_t{range.first - g.layers.first} * frame_.kv_dim;
  const std::int64_t first_value = first_key + std::int64_t{g.layers.size()} * frame_.kv_dim;
  const std::array<ChannelRange, 2> channels{{{first_key, width}, {first_value, width}}};

  const auto slab_units = static_cast<std::size_t>(x_floats_ / (unit_tokens * 2 * width));
  for (std::size_t at = 0; at < units.size(); at += slab_units) {
    const auto slab = units.subspan(at, std::min(slab_units, units.size() - at));
    units_.clear(), places_.clear(), coded_.clear();
    for (const OpenedUnit& unit : slab) {
      units_.push_back(unit.coded);
      places_.push_back(unit.number / page_units);
      coded_.push_back(unit.decoded);
    }
    ops.decode_units({.latent = g.latent.get(),
                      .layout = &g.layout,
                      .coded = g.coded->data(),
                      .units = units_,
                      .channels = channels,
                      .out = x_->as<float>()});
    ops.scatter_units({.frame = {layers, frame_.pairs, 1.0f},
                       .units = coded_,
                       .cos_sin = angles(places_),
                       .x = x_->as<float>()});
  }
}

}  // namespace cga

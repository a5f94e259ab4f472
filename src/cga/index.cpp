#include "cga/index.h"

#include <algorithm>
#include <array>

#include "cga/step_memory.h"

namespace cga {
namespace {

float* reserve(Backend& backend, std::unique_ptr<Buffer>& buffer, std::int64_t n) {
  return cga::reserve(backend, buffer, n, "index scratch");
}

}  // namespace

Index::Index(Backend& backend, const Sidecar& sidecar, const KeyFrame& frame, std::int32_t n_pages)
    : backend_(backend),
      layout_{sidecar.metadata().index.width},
      n_heads_(sidecar.metadata().index.heads),
      pool_(n_pages) {
  const auto n_pairs = static_cast<std::size_t>(layout_.width / 4);
  frequencies_ = frame.inverse_frequency.last(n_pairs);
  const std::int64_t width = layout_.width, dim = sidecar.metadata().base.dim;
  Ops& ops = backend.ops();
  for (const SelectGroup& from : sidecar.select_groups()) {
    Anchor anchor;
    anchor.layers = from.layers;
    anchor.query = ops.prepare(half_matrix(from.query, n_heads_ * width, dim));
    anchor.weight = ops.prepare(half_matrix(from.weight, n_heads_, dim));
    const auto biases = [&backend](const float* values, std::int64_t n) {
      const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(float);
      auto buffer = backend.allocate(bytes, "index biases");
      backend.write(buffer->data(), values, bytes);
      return buffer;
    };
    anchor.bias = biases(from.bias, n_heads_);
    if (from.need != nullptr) {
      anchor.need = ops.prepare(half_matrix(from.need, 1, dim));
      anchor.need_bias = biases(from.need_bias, 1);
    }
    for (std::int64_t i = 0; i < from.n_key_layers; ++i) {
      anchor.keys.push_back(ops.prepare(half_matrix(from.key + i * width * dim, width, dim)));
    }
    anchor.memory = backend.allocate(static_cast<std::size_t>(n_pages * layout_.page_bytes()), "index keys");
    anchors_.push_back(std::move(anchor));
  }
}

std::int64_t Index::page_bytes() const {
  return layout_.page_bytes() * static_cast<std::int64_t>(anchors_.size());
}

std::int64_t Index::matrix_bytes() const {
  std::int64_t bytes = 0;
  for (const Anchor& anchor : anchors_) {
    bytes += anchor.query->bytes + anchor.weight->bytes + n_heads_ * static_cast<std::int64_t>(sizeof(float));
    if (anchor.need) bytes += anchor.need->bytes + static_cast<std::int64_t>(sizeof(float));
    for (const auto& key : anchor.keys) bytes += key->bytes;
  }
  return bytes;
}

IndexStep::IndexStep(Index& index, std::span<const SequenceRows> rows)
    : index_(index), rows_(rows.begin(), rows.end()) {
  for (const SequenceRows& sequence : rows_) {
    n_tokens_ = std::max<std::int64_t>(n_tokens_, sequence.first_row + sequence.n_tokens);
  }
  std::vector<std::int32_t> positions(static_cast<std::size_t>(n_tokens_));
  for (const SequenceRows& sequence : rows_) {
    for (std::int32_t t = 0; t < sequence.n_tokens; ++t) {
      positions[static_cast<std::size_t>(sequence.first_row + t)] = sequence.position + t;
    }
  }
  float* cos_sin = reserve(index.backend_, index.scratch_.cos_sin, n_tokens_ * index.layout_.width / 2);
  index.backend_.ops().rope_angles(cos_sin, positions, index.frequencies_, 1.0f);
}

void IndexStep::observe(std::int32_t layer, const NormedRows& input) {
  auto& [backend, layout, n_heads, frequencies, anchors, pool, scratch] = index_;
  const auto serves = [layer](const Index::Anchor& anchor) { return layer < anchor.layers.last; };
  const Index::Anchor& anchor = *std::find_if(anchors.begin(), anchors.end(), serves);
  const auto i = static_cast<std::size_t>(layer - anchor.layers.first);
  if (i >= anchor.keys.size()) return;
  Ops& ops = backend.ops();
  const std::int64_t size = n_tokens_ * layout.width;
  float* key = reserve(backend, scratch.key, size);
  float* part = i == 0 ? key : reserve(backend, scratch.part, size);
  const MatmulTarget target{anchor.keys[i].get(), nullptr, part};
  ops.norm_matmul({&target, 1}, input, n_tokens_);
  if (i > 0) ops.add(key, part, size);
  if (i + 1 < anchor.keys.size()) return;
  ops.index_keys({.k = key,
                  .cos_sin = scratch.cos_sin->as<float>(),
                  .pages = {anchor.memory->data(), layout},
                  .sequences = rows_});
}

void IndexStep::choose(std::int32_t group, const NormedRows& input, std::span<const ScoredRow> rows,
                       const UnitBudget& budget, float bonus, std::int32_t* units, std::int32_t* counts) {
  auto& [backend, layout, n_heads, frequencies, anchors, pool, scratch] = index_;
  const Index::Anchor& anchor = anchors[static_cast<std::size_t>(group)];
  Ops& ops = backend.ops();
  float* q = reserve(backend, scratch.queries, n_tokens_ * n_heads * layout.width);
  float* weights = reserve(backend, scratch.weights, n_tokens_ * n_heads);
  std::array<MatmulTarget, 3> targets{
      {{anchor.query.get(), nullptr, q}, {anchor.weight.get(), anchor.bias->as<float>(), weights}}};
  float* need = nullptr;
  if (anchor.need && budget.least < budget.most) {
    need = reserve(backend, scratch.need, n_tokens_);
    targets[2] = {anchor.need.get(), anchor.need_bias->as<float>(), need};
  }
  ops.norm_matmul(std::span(targets).first(need != nullptr ? 3 : 2), input, n_tokens_);
  std::int64_t stride = 0;
  for (const ScoredRow& row : rows) stride = std::max<std::int64_t>(stride, row.last);
  stride = round_up(stride, std::int64_t{256});  // so that most calls are like that of the token before
  float* scores = reserve(backend, scratch.scores, static_cast<std::int64_t>(rows.size()) * stride);
  ops.score_units({.q = q,
                   .weights = weights,
                   .cos_sin = scratch.cos_sin->as<float>(),
                   .n_heads = n_heads,
                   .pages = {anchor.memory->data(), layout},
                   .rows = rows,
                   .scores = scores,
                   .stride = stride});
  ops.top_units({.scores = scores,
                 .stride = stride,
                 .rows = rows,
                 .count = budget.most,
                 .bonus = bonus,
                 .need = need,
                 .mean = budget.mean,
                 .least = budget.least,
                 .units = units,
                 .counts = counts});
  if (need == nullptr) std::fill_n(counts, rows.size(), budget.most);
}

}  // namespace cga

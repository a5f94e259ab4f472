// Where a prompt's keys and values are while one layer group runs over it: exact, whole, and used again by
// the next group. Within a prompt nothing is read from codes.
#pragma once

#include <array>
#include <numeric>
#include <optional>
#include <vector>

#include "base/checked.h"
#include "cache/kv_step.h"
#include "cache/page_memory.h"
#include "cga/index.h"
#include "cga/layer_plan.h"

namespace cga {

class PrefillScratch final : public KvStep {
 public:
  /// @param n_layers     of the largest group
  /// @param index        gets the prompt's keys; may be null
  /// @param index_pages  of the prompt's tokens, in the index
  PrefillScratch(Backend& backend, const KvLayout& layout, std::int32_t n_layers, std::int32_t n_tokens,
                 Index* index, std::span<const std::int32_t> index_pages)
      : index_(index),
        index_pages_(index_pages),
        ids_(static_cast<std::size_t>(div_up(n_tokens, page_tokens))),
        memory_(backend, layout, n_layers, static_cast<std::int32_t>(ids_.size()), 0,
                "prompt of a layer group") {
    std::iota(ids_.begin(), ids_.end(), 0);
  }

  /// The next group's turn: its keys and values overwrite the last one's.
  void begin_group(LayerRange range) {
    range_ = range;
    layers_.clear();
    for (std::int32_t i = 0; i < range.size(); ++i) layers_.push_back(memory_.layer(i));
  }

  /// The next chunk of the prompt: n_tokens at `position`, all rows of its batch.
  void begin_chunk(std::int32_t position, std::int32_t n_tokens) {
    rows_ = {SequenceRows{.first_row = 0, .n_tokens = n_tokens, .position = position, .pages = ids_}};
    if (index_ == nullptr) return;
    SequenceRows keys = rows_[0];
    keys.pages = index_pages_;
    index_step_.emplace(*index_, std::span(&keys, 1));
  }

  LayerKv layer(std::int32_t index, const NormedRows& input) override {
    if (index_step_) index_step_->observe(index, input);
    return {layers_[static_cast<std::size_t>(index - range_.first)], rows_, rows_};
  }

  /// The current group's layers; page p of the prompt has id p.
  std::span<const LayerPages> layers() const { return layers_; }

  static std::int64_t bytes(const KvLayout& layout, std::int32_t n_layers, std::int32_t n_tokens) {
    return layout.page_bytes() * n_layers * div_up(n_tokens, page_tokens);
  }

 private:
  Index* index_;
  std::span<const std::int32_t> index_pages_;
  std::optional<IndexStep> index_step_;  // of the current chunk
  std::vector<std::int32_t> ids_;        // 0, 1, 2, …
  PageMemory memory_;
  LayerRange range_;
  std::vector<LayerPages> layers_;
  std::array<SequenceRows, 1> rows_;
};

}  // namespace cga

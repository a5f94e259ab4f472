// The archive: pages of coded tokens, and the transforms that code and decode them. Each layer group has a
// pool of its own; a page has the same id in all of them. What is coded and arithmetic: docs/sidecar.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "cache/page_pool.h"
#include "cga/layer_plan.h"
#include "cga/sidecar.h"
#include "kernels/ops.h"

namespace cga {

/// How the model rotates keys: what coding undoes but for the offset in the page.
struct KeyFrame {
  RopePairs pairs = RopePairs::halves;
  std::span<const float> inverse_frequency;  // [head_dim/2], radians a token; outlives the archive
  std::int32_t head_dim = 0;
  std::int32_t kv_dim = 0;  // n_kv_heads * head_dim
};

/// A page on its way into the archive. `number` is its place in its sequence: it holds the positions from
/// 64 * number on.
struct SealedPage {
  std::int32_t number = 0;
  std::int32_t exact = 0;  // id of the page with its keys and values
  std::int32_t coded = 0;  // id in the archive
};

/// A unit on its way out. Unit ids are 4 * (page id) + (unit in page).
struct OpenedUnit {
  std::int32_t number = 0;   // in its sequence: it holds the positions from 16 * number on
  std::int32_t coded = 0;    // id of the unit in the archive
  std::int32_t decoded = 0;  // id of the unit that its keys and values are written to
};

class Archive {
 public:
  /// @param n_pages  of all sequences together
  Archive(Backend& backend, const Sidecar& sidecar, double bits, const KeyFrame& frame, std::int32_t n_pages);

  std::int32_t n_groups() const { return static_cast<std::int32_t>(groups_.size()); }
  LayerRange layers(std::int32_t group) const { return groups_[static_cast<std::size_t>(group)].layers; }
  std::int32_t group_of(std::int32_t layer) const;

  Ops& ops() { return backend_.ops(); }
  PagePool& pages() { return pool_; }
  std::int64_t page_bytes() const;  // one page, all groups
  std::int64_t unit_bytes(std::int32_t group) const {
    return groups_[static_cast<std::size_t>(group)].layout.unit_bytes();
  }
  std::int64_t transform_bytes() const;  // what the backend keeps of the transforms

  /// Codes pages of one group.  layers: [layers(group).size()], where their keys and values are
  void seal(std::int32_t group, std::span<const LayerPages> layers, std::span<const SealedPage> pages);

  /// Decodes units for some layers of one group.  layers: [range.size()], where they go
  void open(std::int32_t group, LayerRange range, std::span<const LayerPages> layers,
            std::span<const OpenedUnit> units);

  /// Bytes an archive takes besides its pages and transforms.
  static std::int64_t scratch_bytes(std::int64_t n_channels, std::int32_t n_layers, std::int32_t head_dim);

 private:
  struct Group {
    LayerRange layers;
    std::unique_ptr<PreparedLatent> latent;
    std::int64_t transform_bytes = 0;
    LatentLayout layout;
    std::unique_ptr<Buffer> coded;  // [n_pages, layout.page_bytes()]
  };

  /// Angles of the first positions of pages.  numbers: [at most max_angles()]
  const float* angles(std::span<const std::int32_t> numbers);

  Backend& backend_;
  KeyFrame frame_;
  std::vector<Group> groups_;
  PagePool pool_;
  std::int64_t x_floats_ = 0;
  std::unique_ptr<Buffer> x_;        // rows of channels on their way in or out
  std::unique_ptr<Buffer> cos_sin_;  // [pages or units at once, 2, head_dim/2]
  // Host arrays that are used again.
  std::vector<std::int32_t> exact_, coded_, positions_, units_, places_;
};

}  // namespace cga

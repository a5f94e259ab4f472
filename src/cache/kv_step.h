// What attention reads and writes while one batch goes through the layers. How keys and values are kept
// (all exact, in a prompt's scratch, or mostly coded) is decided by whoever makes the step; attention and the
// forward pass only ask for a layer.
#pragma once

#include <cstdint>
#include <span>

#include "cache/kv_cache.h"
#include "kernels/ops.h"

namespace cga {

struct LayerKv {
  LayerPages pages;
  std::span<const SequenceRows> sequences;  // the batch's rows, with page ids of this layer
};

class KvStep {
 public:
  virtual ~KvStep() = default;
  /// Layers are asked for in order, each before its attention. What it returns is valid until the next call.
  virtual LayerKv layer(std::int32_t index) = 0;
};

/// Every token exact, under the same page ids in every layer.
class DenseStep final : public KvStep {
 public:
  DenseStep(const KvCache& cache, std::span<const SequenceRows> sequences)
      : cache_(cache), sequences_(sequences) {}

  LayerKv layer(std::int32_t index) override { return {cache_.layer(index), sequences_}; }

 private:
  const KvCache& cache_;
  std::span<const SequenceRows> sequences_;
};

}  // namespace cga

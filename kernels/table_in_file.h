// A table of embeddings for backends that read host memory: the file's own bytes, where they lie.
#pragma once

#include "kernels/ops.h"

namespace cga {

class TableInFile final : public PreparedWeight {
 public:
  explicit TableInFile(const WeightView& view) : view_(view) {
    rows = view.rows;
    cols = view.cols;
    references_file = true;
  }
  static const WeightView& view_of(const PreparedWeight& prepared) {
    return static_cast<const TableInFile&>(prepared).view_;
  }

 private:
  WeightView view_;
};

}  // namespace cga

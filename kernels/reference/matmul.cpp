// Weights stay as they are in the file; each row is dequantised once a call and multiplied in f64.
#include <vector>

#include "kernels/reference/reference_ops.h"

namespace cga::reference {
namespace {

struct ReferenceWeight final : PreparedWeight {
  WeightView view;
};

}  // namespace

std::unique_ptr<PreparedWeight> ReferenceOps::prepare(const WeightView& weight) {
  auto prepared = std::make_unique<ReferenceWeight>();
  prepared->rows = weight.rows;
  prepared->cols = weight.cols;
  prepared->bytes = weight.bytes();
  prepared->references_file = true;
  prepared->view = weight;
  return prepared;
}

std::int64_t ReferenceOps::prepared_bytes(const WeightView& weight) const {
  return weight.bytes();
}

void ReferenceOps::matmul(std::span<const MatmulTarget> targets, const float* x, std::int64_t n_tokens) {
  std::vector<float> row;  // [cols]
  for (const MatmulTarget& target : targets) {
    const WeightView& w = static_cast<const ReferenceWeight&>(*target.weight).view;
    row.resize(static_cast<std::size_t>(w.cols));
    for (std::int64_t r = 0; r < w.rows; ++r) {
      w.type->decode(w.row(r), w.cols / w.type->block_values, row.data());
      for (std::int64_t t = 0; t < n_tokens; ++t) {
        const float* xt = x + t * w.cols;
        double sum = target.bias != nullptr ? target.bias[r] : 0.0;
        for (std::int64_t c = 0; c < w.cols; ++c) sum += static_cast<double>(row[c]) * xt[c];
        target.out[t * w.rows + r] = static_cast<float>(sum);
      }
    }
  }
}

}  // namespace cga::reference

// The small ops between the products: embedding, norm, RoPE, SwiGLU, residual add.
#include <algorithm>
#include <cmath>

#include "kernels/reference/reference_ops.h"
#include "kernels/table_in_file.h"

namespace cga::reference {

std::unique_ptr<PreparedWeight> ReferenceOps::prepare_table(const WeightView& table) {
  return std::make_unique<TableInFile>(table);
}

void ReferenceOps::embed(float* out, const PreparedWeight& prepared, std::span<const std::int32_t> ids) {
  const WeightView& table = TableInFile::view_of(prepared);
  for (std::size_t t = 0; t < ids.size(); ++t) {
    table.type->decode(table.row(ids[t]), table.cols / table.type->block_values,
                       out + static_cast<std::int64_t>(t) * table.cols);
  }
}

void ReferenceOps::rms_norm(float* out, const float* x, const float* weight, float eps, std::int64_t n_tokens,
                            std::int64_t dim) {
  for (std::int64_t t = 0; t < n_tokens; ++t, x += dim, out += dim) {
    double squares = 0;
    for (std::int64_t i = 0; i < dim; ++i) squares += static_cast<double>(x[i]) * x[i];
    const double norm = 1.0 / std::sqrt(squares / static_cast<double>(dim) + eps);
    for (std::int64_t i = 0; i < dim; ++i) out[i] = static_cast<float>(x[i] * norm * weight[i]);
  }
}

void ReferenceOps::rope_angles(float* cos_sin, std::span<const std::int32_t> positions,
                               std::span<const float> inverse_frequency, float magnitude) {
  // The product is rounded to f32 before cos and sin, as in the models' training code.
  const auto half = static_cast<std::int64_t>(inverse_frequency.size());
  for (const std::int32_t position : positions) {
    for (std::int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(position) * inverse_frequency[static_cast<std::size_t>(i)];
      cos_sin[i] = static_cast<float>(std::cos(static_cast<double>(angle)) * magnitude);
      cos_sin[half + i] = static_cast<float>(std::sin(static_cast<double>(angle)) * magnitude);
    }
    cos_sin += 2 * half;
  }
}

void ReferenceOps::rope(float* x, const float* cos_sin, RopePairs pairs, std::int64_t n_tokens,
                        std::int32_t n_heads, std::int32_t head_dim) {
  const std::int32_t half = head_dim / 2;
  const std::int32_t stride = pairs == RopePairs::halves ? 1 : 2;      // from one pair to the next
  const std::int32_t partner = pairs == RopePairs::halves ? half : 1;  // from a pair's first to its second
  for (std::int64_t t = 0; t < n_tokens; ++t, cos_sin += 2 * half) {
    for (std::int32_t h = 0; h < n_heads; ++h, x += head_dim) {
      for (std::int32_t i = 0; i < half; ++i) {
        float& a = x[i * stride];
        float& b = x[i * stride + partner];
        const float rotated_a = a * cos_sin[i] - b * cos_sin[half + i];
        const float rotated_b = a * cos_sin[half + i] + b * cos_sin[i];
        a = rotated_a;
        b = rotated_b;
      }
    }
  }
}

void ReferenceOps::swiglu(float* out, const float* gate, const float* up, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const double g = gate[i];
    out[i] = static_cast<float>(g / (1.0 + std::exp(-g)) * up[i]);
  }
}

void ReferenceOps::add(float* x, const float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] += y[i];
}

void ReferenceOps::gather(float* out, const float* x, std::span<const std::int32_t> rows, std::int64_t dim) {
  for (const std::int32_t row : rows) {
    std::copy_n(x + row * dim, dim, out);
    out += dim;
  }
}

}  // namespace cga::reference

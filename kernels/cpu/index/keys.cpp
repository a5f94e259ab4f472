// Ops::index_keys: a few dozen numbers a token, so plain loops suffice.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/index/index.h"

namespace cga::cpu {

float rotate_and_round(const float* x, const float* cos_sin, std::int32_t width, float* codes) {
  const std::int32_t pairs = width / 4, still = width - 2 * pairs;
  std::copy_n(x, still, codes);
  for (std::int32_t i = 0; i < pairs; ++i) {
    const float a = x[still + i], b = x[still + pairs + i];
    codes[still + i] = a * cos_sin[i] - b * cos_sin[pairs + i];
    codes[still + pairs + i] = b * cos_sin[i] + a * cos_sin[pairs + i];
  }
  float largest = 0;
  for (std::int32_t i = 0; i < width; ++i) largest = std::max(largest, std::abs(codes[i]));
  const float scale = largest > 0 ? largest / 127 : 1.0f;
  for (std::int32_t i = 0; i < width; ++i) {
    codes[i] = std::clamp(std::nearbyint(codes[i] / scale), -127.0f, 127.0f);
  }
  return scale;
}

void index_keys(const IndexKeysParams& params, ThreadPool& pool) {
  const IndexLayout& layout = params.pages.layout;
  for (const SequenceRows& sequence : params.sequences) {
    const auto write = [&](std::int64_t t, int) {
      std::vector<float> codes(static_cast<std::size_t>(layout.width));
      const std::int64_t row = sequence.first_row + t;
      const auto position = static_cast<std::int32_t>(sequence.position + t);
      const std::int32_t in_unit = position % unit_tokens;
      const IndexUnit unit =
          index_unit(params.pages.base, layout, sequence.pages.data(), position / unit_tokens);
      unit.scales[in_unit] = rotate_and_round(
          params.k + row * layout.width, params.cos_sin + row * layout.width / 2, layout.width, codes.data());
      for (std::int32_t i = 0; i < layout.width; ++i) {
        unit.codes[i * unit_tokens + in_unit] = static_cast<std::int8_t>(codes[static_cast<std::size_t>(i)]);
      }
    };
    pool.parallel_for(sequence.n_tokens, write);
  }
}

}  // namespace cga::cpu

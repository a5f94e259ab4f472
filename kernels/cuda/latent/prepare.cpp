// From a transform in a sidecar to one on the device.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/half.h"
#include "kernels/cuda/latent/latent.h"
#include "kernels/cuda/latent/pack.h"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

/// Where the arrays of a prepared transform lie in its memory, each at a multiple of 256 bytes.
struct Places {
  std::int64_t mean = 0, scale = 0, inverse_scale = 0, factor = 0, inverse_factor = 0, wide = 0, narrow = 0,
               tables = 0, bytes = 0;

  explicit Places(const LatentView& view) {
    const auto take = [this](std::int64_t size) {
      const std::int64_t at = bytes;
      bytes += round_up<std::int64_t>(size, 256);
      return at;
    };
    mean = take(4 * view.n);
    scale = take(4 * view.n);
    inverse_scale = take(4 * view.n);
    factor = take(4 * view.m * (view.n / basis_scale_channels));
    inverse_factor = take(4 * view.m);
    wide = take(2 * view.w * view.n);
    narrow = take((view.m - view.w) * view.n);
    tables = take(sizeof(LatentTables));
  }
};

/// What element (i, c) of the basis as it is packed has to be multiplied by, for channels c of one tile.
float basis_scale(const LatentView& view, std::int64_t i, std::int64_t tile) {
  if (i < view.w) return 1.0f;
  return f16_to_f32(view.basis_scale[(i - view.w) * (view.n / basis_scale_channels) + tile]);
}

double deviation(const LatentView& view, std::int64_t i) {
  return std::sqrt(view.variance[i]);  // f32, as the reference's
}

double largest_level(const LatentView& view) {
  double largest = 5.5;  // of 8 bits
  for (const std::int32_t bits : {1, 2, 4, 8}) {
    for (const std::int32_t code : {0, (1 << bits) - 1}) {
      largest = std::max(largest, std::abs(double{latent_level(view, bits, code)}));
    }
  }
  return largest;
}

/// The power of two that brings the largest factor of a product of the basis just below 2^14. Factors become
/// f16, or the sum of two: what is 2^14 times smaller still has all its bits, and what is smaller than that
/// is wrong by no more than 2^-39 of the largest.
double power(const LatentView& view) {
  double largest = std::numeric_limits<float>::min();
  for (std::int64_t i = 0; i < view.m; ++i) {
    for (std::int64_t tile = 0; tile < (i < view.w ? 1 : view.n / basis_scale_channels); ++tile) {
      largest = std::max(largest, deviation(view, i) * std::abs(double{basis_scale(view, i, tile)}));
    }
  }
  return std::ldexp(1.0, 13 - std::ilogb(largest * largest_level(view)));
}

/// The greatest f32 not above the middle between two levels: larger values are nearer to the upper one.
float border(float low, float high) {
  const double middle = (double{low} + high) / 2;
  const auto rounded = static_cast<float>(middle);
  return rounded > middle ? std::nextafter(rounded, -std::numeric_limits<float>::infinity()) : rounded;
}

LatentTables make_tables(const LatentView& view) {
  LatentTables tables;
  for (std::size_t width = 0; width < 3; ++width) {
    std::fill_n(tables.levels[width], 16, std::numeric_limits<float>::infinity());
    std::fill_n(tables.borders[width], 16, std::numeric_limits<float>::infinity());
    const std::int32_t bits = 1 << width;
    for (std::int32_t code = 0; code < 1 << bits; ++code) {
      tables.levels[width][code] = latent_level(view, bits, code);
      if (code > 0)
        tables.borders[width][code - 1] = border(tables.levels[width][code - 1], tables.levels[width][code]);
    }
  }
  return tables;
}

/// Vectors in host memory, as they will lie on the device.
class Image {
 public:
  explicit Image(std::int64_t bytes) : bytes_(static_cast<std::size_t>(bytes)) {}
  template <class T>
  void put(std::int64_t at, const T* from, std::int64_t n) {
    if (n > 0) std::memcpy(bytes_.data() + at, from, static_cast<std::size_t>(n) * sizeof(T));
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

Image make_image(const LatentView& view, const Places& places) {
  Image image(places.bytes);
  const double scale_of_all = power(view);
  const std::int64_t n_tiles = view.n / basis_scale_channels;
  image.put(places.mean, view.mean, view.n);
  image.put(places.scale, view.scale, view.n);
  std::vector<float> values;
  for (std::int64_t c = 0; c < view.n; ++c) {
    values.push_back(static_cast<float>(1.0 / (double{view.scale[c]} * scale_of_all)));
  }
  image.put(places.inverse_scale, values.data(), view.n);
  values.clear();
  for (std::int64_t tile = 0; tile < n_tiles; ++tile) {
    for (std::int64_t i = 0; i < view.m; ++i) {
      values.push_back(
          static_cast<float>(deviation(view, i) * double{basis_scale(view, i, tile)} * scale_of_all));
    }
  }
  image.put(places.factor, values.data(), view.m * n_tiles);
  values.clear();
  for (std::int64_t i = 0; i < view.m; ++i) {
    values.push_back(static_cast<float>(1.0 / (deviation(view, i) * deviation(view, i) * scale_of_all)));
  }
  image.put(places.inverse_factor, values.data(), view.m);
  image.put(places.wide, pack_wide(view).data(), view.w * view.n);
  image.put(places.narrow, pack_narrow(view).data(), (view.m - view.w) * view.n);
  const LatentTables tables = make_tables(view);
  image.put(places.tables, &tables, 1);
  return image;
}

}  // namespace

std::int64_t prepared_latent_bytes(const LatentView& view) {
  return Places(view).bytes;
}

std::unique_ptr<PreparedLatent> prepare_latent(DeviceAllocator& allocator, cudaStream_t stream,
                                               const LatentView& view) {
  const Places places(view);
  auto latent = std::make_unique<CudaLatent>();
  latent->n = view.n;
  latent->m = view.m;
  latent->memory = DeviceArray(allocator, static_cast<std::size_t>(places.bytes), "transform");
  const Image image = make_image(view, places);
  std::byte* const at = latent->memory.data();
  check(cudaMemcpyAsync(at, image.bytes().data(), image.bytes().size(), cudaMemcpyHostToDevice, stream),
        "copying a transform");
  check(cudaStreamSynchronize(stream), "copying a transform");
  const auto floats = [at](std::int64_t place) { return reinterpret_cast<const float*>(at + place); };
  latent->data = {.n = static_cast<std::int32_t>(view.n),
                  .m = static_cast<std::int32_t>(view.m),
                  .w = static_cast<std::int32_t>(view.w),
                  .mean = floats(places.mean),
                  .scale = floats(places.scale),
                  .inverse_scale = floats(places.inverse_scale),
                  .factor = floats(places.factor),
                  .inverse_factor = floats(places.inverse_factor),
                  .wide = reinterpret_cast<const std::uint16_t*>(at + places.wide),
                  .narrow = reinterpret_cast<const std::uint8_t*>(at + places.narrow),
                  .tables = reinterpret_cast<const LatentTables*>(at + places.tables)};
  return latent;
}

}  // namespace cga::cuda

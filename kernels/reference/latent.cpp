// The latent codec in plain loops, inner products in f64, straight from docs/sidecar.md: what every other
// implementation is held to, and what is itself held to the Python one.
#include <cmath>
#include <vector>

#include "base/half.h"
#include "kernels/reference/reference_ops.h"

namespace cga::reference {
namespace {

class Latent final : public PreparedLatent {
 public:
  explicit Latent(const LatentView& from) : view(from) {
    n = view.n;
    m = view.m;
  }

  const LatentView view;

  /// Element of the stored, rounded basis: component i, channel c.
  double basis(std::int64_t i, std::int64_t c) const {
    if (i < view.w) return f16_to_f32(view.basis_wide[i * view.n + c]);
    const std::int64_t row = i - view.w;
    const float scale =
        f16_to_f32(view.basis_scale[(row * view.n + c) / basis_scale_channels]);  // n is a multiple of 128
    return double{scale} * view.basis[row * view.n + c];
  }

  float deviation(std::int64_t i) const { return std::sqrt(view.variance[i]); }

  /// The nearest level of a value of unit variance; ties to the lower.
  std::uint8_t nearest(float value, std::int32_t bits) const {
    std::int32_t best = 0;
    for (std::int32_t code = 1; code < 1 << bits; ++code) {
      const double distance = std::abs(double{value} - latent_level(view, bits, code));
      if (distance < std::abs(double{value} - latent_level(view, bits, best))) best = code;
    }
    return static_cast<std::uint8_t>(best);
  }
};

const Latent& latent_of(const PreparedLatent* prepared) {
  return static_cast<const Latent&>(*prepared);
}

/// The codes of one block of one token.  z: [n]; codes: [m]
void encode_block(const Latent& latent, const LatentLayout::Block& block, const std::vector<double>& z,
                  std::uint8_t* codes) {
  for (std::int64_t i = block.first_component; i < block.first_component + block_components; ++i) {
    double y = 0;
    for (std::int64_t c = 0; c < latent.view.n; ++c) y += latent.basis(i, c) * z[static_cast<std::size_t>(c)];
    codes[i] = latent.nearest(static_cast<float>(y) / latent.deviation(i), block.bits);
  }
}

/// z += sign * U ŷ for one block of one token.
void add_block(const Latent& latent, const LatentLayout::Block& block, const std::uint8_t* codes, double sign,
               std::vector<double>& z) {
  for (std::int64_t i = block.first_component; i < block.first_component + block_components; ++i) {
    const double y = sign * double{latent_level(latent.view, block.bits, codes[i]) * latent.deviation(i)};
    for (std::int64_t c = 0; c < latent.view.n; ++c) z[static_cast<std::size_t>(c)] += y * latent.basis(i, c);
  }
}

/// x: [n], f32; codes: [m]
void encode_token(const Latent& latent, const LatentLayout& layout, const float* x, std::uint8_t* codes) {
  const LatentView& view = latent.view;
  std::vector<double> z(static_cast<std::size_t>(view.n));
  for (std::int64_t c = 0; c < view.n; ++c) {
    z[static_cast<std::size_t>(c)] = view.scale[c] * (x[c] - view.mean[c]);  // in f32
  }
  const auto wide = [&](const LatentLayout::Block& block) { return block.first_component < view.w; };
  for (const auto& block : layout.blocks()) {
    if (wide(block)) encode_block(latent, block, z, codes);
  }
  for (const auto& block : layout.blocks()) {
    if (wide(block)) add_block(latent, block, codes, -1.0, z);
  }
  for (const auto& block : layout.blocks()) {
    if (!wide(block)) encode_block(latent, block, z, codes);
  }
}

/// codes: [16, m]; unit: [layout.unit_bytes()]
void pack_unit(const Latent& latent, const LatentLayout& layout, const std::vector<std::uint8_t>& codes,
               std::byte* unit) {
  std::uint8_t column[unit_tokens];
  for (const auto& block : layout.blocks()) {
    for (std::int64_t i = 0; i < block_components; ++i) {
      for (std::int64_t t = 0; t < unit_tokens; ++t) {
        column[t] = codes[static_cast<std::size_t>(t * latent.view.m + block.first_component + i)];
      }
      pack_codes(column, block.bits, unit + block.unit_offset + i * block.component_bytes());
    }
  }
}

void unpack_unit(const Latent& latent, const LatentLayout& layout, const std::byte* unit,
                 std::vector<std::uint8_t>& codes) {
  std::uint8_t column[unit_tokens];
  for (const auto& block : layout.blocks()) {
    for (std::int64_t i = 0; i < block_components; ++i) {
      unpack_codes(unit + block.unit_offset + i * block.component_bytes(), block.bits, column);
      for (std::int64_t t = 0; t < unit_tokens; ++t) {
        codes[static_cast<std::size_t>(t * latent.view.m + block.first_component + i)] = column[t];
      }
    }
  }
}

}  // namespace

std::int64_t ReferenceOps::prepared_latent_bytes(const LatentView& view) const {
  return view.bytes();  // read where it lies
}

std::unique_ptr<PreparedLatent> ReferenceOps::prepare_latent(const LatentView& view) {
  return std::make_unique<Latent>(view);
}

void ReferenceOps::encode_pages(const EncodeParams& params) {
  const Latent& latent = latent_of(params.latent);
  const LatentView& view = latent.view;
  const LatentLayout& layout = *params.layout;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(unit_tokens * view.m));
  const float* x = params.x;
  for (const std::int32_t page : params.pages) {
    std::byte* unit = params.coded + page * layout.page_bytes();
    for (std::int32_t u = 0; u < page_units; ++u, unit += layout.unit_bytes()) {
      for (std::int64_t t = 0; t < unit_tokens; ++t, x += view.n)
        encode_token(latent, layout, x, &codes[static_cast<std::size_t>(t * view.m)]);
      pack_unit(latent, layout, codes, unit);
    }
  }
}

void ReferenceOps::decode_units(const DecodeParams& params) {
  const Latent& latent = latent_of(params.latent);
  const LatentView& view = latent.view;
  const LatentLayout& layout = *params.layout;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(unit_tokens * view.m));
  std::vector<double> z(static_cast<std::size_t>(view.n));
  float* out = params.out;
  for (const std::int32_t unit : params.units) {
    unpack_unit(latent, layout, params.coded + unit * layout.unit_bytes(), codes);
    for (std::int64_t t = 0; t < unit_tokens; ++t) {
      z.assign(z.size(), 0.0);
      for (const auto& block : layout.blocks()) {
        add_block(latent, block, &codes[static_cast<std::size_t>(t * view.m)], 1.0, z);
      }
      for (const ChannelRange& range : params.channels) {
        for (std::int64_t c = range.first; c < range.first + range.count; ++c) {
          *out++ = static_cast<float>(view.mean[c] + z[static_cast<std::size_t>(c)] / view.scale[c]);
        }
      }
    }
  }
}

}  // namespace cga::reference

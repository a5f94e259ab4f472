// Both backends' latent codec against the Python one, on its sidecars and tokens
// (tests/vectors/make_codec.py).
#include <hwy/targets.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "cga/codec_plan.h"
#include "cga/sidecar.h"
#include "kernels/ops.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/tensor_values.h"

namespace cga {
namespace {

/// One group at one rate on one backend.
class Codec {
 public:
  Codec(const std::string& device, const LatentView& view, double rate)
      : backend_(make_backend(device, 2)),
        latent_(backend_->ops().prepare_latent(view)),
        layout_(plan_layout(view, rate)) {}

  const LatentLayout& layout() const { return layout_; }

  /// @param x  [at most 64, n]; the rest of the page is zeros
  std::vector<std::byte> encode(std::vector<float> x) const {
    x.resize(static_cast<std::size_t>(page_tokens * latent_->n));
    std::vector<std::byte> page(static_cast<std::size_t>(layout().page_bytes()));
    const std::int32_t id = 0;
    backend_->ops().encode_pages({latent_.get(), &layout_, x.data(), page.data(), {&id, 1}});
    return page;
  }

  /// @return [64, n]
  std::vector<float> decode(const std::vector<std::byte>& page) const {
    std::vector<float> out(static_cast<std::size_t>(page_tokens * latent_->n));
    const std::int32_t units[] = {0, 1, 2, 3};
    const ChannelRange all{0, latent_->n};
    backend_->ops().decode_units({latent_.get(), &layout_, page.data(), units, {&all, 1}, out.data()});
    return out;
  }

  /// Codes of a token, [m], 0 where there are no bits.
  std::vector<int> codes(const std::vector<std::byte>& page, std::size_t token) const {
    std::vector<int> all(static_cast<std::size_t>(latent_->m), 0);
    const std::byte* unit =
        page.data() + static_cast<std::int64_t>(token / unit_tokens) * layout().unit_bytes();
    for (const auto& block : layout().blocks()) {
      for (std::int64_t i = 0; i < block_components; ++i) {
        std::uint8_t column[unit_tokens];
        unpack_codes(unit + block.unit_offset + i * block.component_bytes(), block.bits, column);
        all[static_cast<std::size_t>(block.first_component + i)] = column[token % unit_tokens];
      }
    }
    return all;
  }

  /// The page that holds the given codes.  codes: [n_tokens, m]
  std::vector<std::byte> pack(const std::vector<std::uint8_t>& codes) const {
    const auto m = static_cast<std::size_t>(latent_->m);
    std::vector<std::byte> page(static_cast<std::size_t>(layout().page_bytes()));
    for (std::size_t u = 0; u < page_units; ++u) {
      std::byte* unit = page.data() + static_cast<std::int64_t>(u) * layout().unit_bytes();
      for (const auto& block : layout().blocks()) {
        for (std::int64_t i = 0; i < block_components; ++i) {
          std::uint8_t column[unit_tokens] = {};
          for (std::size_t t = 0; t < unit_tokens; ++t) {
            const std::size_t at =
                (u * unit_tokens + t) * m + static_cast<std::size_t>(block.first_component + i);
            if (at < codes.size()) column[t] = codes[at];
          }
          pack_codes(column, block.bits, unit + block.unit_offset + i * block.component_bytes());
        }
      }
    }
    return page;
  }

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<PreparedLatent> latent_;
  LatentLayout layout_;
};

struct Agreement {
  std::size_t n_codes = 0, n_different = 0;
  double worst = 0;  // relative L2 error of a token's reconstruction
};

/// How far reconstructions may be from the Python codec's: the CPU multiplies in 16 bits, or in 8 where its
/// processor multiplies bytes (ops.h).
double tolerance_on(const std::string& device) {
  if (device == "scalar") return 1e-5;
  return (hwy::SupportedTargets() & HWY_AVX3_DL) != 0 ? 2e-2 : 2e-4;
}

/// All groups of the sidecar STEM.cga at the rates of STEM.safetensors, which tests/vectors/make_codec.py
/// made.
Agreement agreement(const std::string& device, const std::string& stem) {
  Agreement found;
  const Sidecar sidecar(stem + ".cga");
  const SafetensorsFile vectors{MappedFile(stem + ".safetensors")};
  for (std::size_t g = 0; g < sidecar.groups().size(); ++g) {
    const LatentView& view = sidecar.groups()[g].transform;
    for (const auto& [label, rate] : {std::pair<std::string, double>{"r1", 1.0}, {"r15", 1.5}, {"r2", 2.0}}) {
      INFO(device << ", " << stem << ", group " << g << ", " << label);
      const std::string group = "group." + std::to_string(g) + ".";
      const auto x = test::tensor_values<float>(vectors, group + "x");
      const auto expected_codes =
          test::tensor_values<std::uint8_t>(vectors, (group + "codes_").append(label));
      const auto expected = test::tensor_values<float>(vectors, (group + "decoded_").append(label));
      const Codec codec(device, view, rate);
      const std::vector<std::byte> page = codec.encode(x);
      const auto m = static_cast<std::size_t>(view.m), n = static_cast<std::size_t>(view.n);
      for (std::size_t t = 0; t < x.size() / n; ++t) {
        const std::vector<int> codes = codec.codes(page, t);
        for (std::size_t i = 0; i < m; ++i) {
          const int difference = std::abs(codes[i] - int{expected_codes[t * m + i]});
          CHECK(difference <= 1);
          found.n_different += difference != 0;
          ++found.n_codes;
        }
      }
      std::vector<float> decoded = codec.decode(codec.pack(expected_codes));
      decoded.resize(x.size());
      const auto result = test::compare(decoded, expected, n);
      INFO(result);
      CHECK(result.within(tolerance_on(device)));
      found.worst = std::max(found.worst, result.worst_l2);
    }
  }
  return found;
}

void check_agreement(const std::string& device) {
  std::size_t n_codes = 0, n_different = 0;
  for (const std::string name : {"three-layers", "qwen2-mixed"}) {
    const Agreement found = agreement(device, std::string(CGA_VECTORS) + "/codec/" + name);
    n_codes += found.n_codes;
    n_different += found.n_different;
  }
  INFO(device << ": " << n_different << " of " << n_codes << " codes differ");
  CHECK(n_codes > 10'000);
  CHECK(static_cast<double>(n_different) <= 1e-3 * static_cast<double>(n_codes));
}

TEST_CASE("codes and reconstructions agree with the Python codec's", "[codec]") {
  check_agreement("scalar");
  check_agreement("cpu");
  // Without the instruction set that multiplies bytes.
  hwy::SetSupportedTargetsForTest(hwy::SupportedTargets() & ~HWY_AVX3_DL);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  check_agreement("cpu");
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST_CASE("the same on a real sidecar and real tokens, named by $CGA_CODEC_STEM", "[.real][codec]") {
  const char* stem = std::getenv("CGA_CODEC_STEM");
  if (stem == nullptr) FAIL("set CGA_CODEC_STEM to what make_codec.py wrote");
  for (const std::string device : {"scalar", "cpu"}) {
    const Agreement found = agreement(device, stem);
    std::cout << device << ": " << found.n_different << " of " << found.n_codes
              << " codes differ, by one step; reconstructions by at most " << found.worst << '\n';
    CHECK(static_cast<double>(found.n_different) <= 1e-3 * static_cast<double>(found.n_codes));
  }
}

}  // namespace
}  // namespace cga

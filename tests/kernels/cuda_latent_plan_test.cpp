// How the CUDA backend arranges and cuts the latent codec: pure functions, tested without a GPU.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <set>
#include <vector>

#include "kernels/cuda/attention/resident_unit.cuh"
#include "kernels/cuda/latent/pack.h"
#include "kernels/cuda/latent/plan.h"
#include "support/catch.h"
#include "support/latent_transform.h"

using namespace cga;
using namespace cga::cuda;

TEST_CASE("a part of the basis has a place for each element, those of a lane together", "[latent][plan]") {
  for (const bool wide : {false, true}) {
    std::set<std::int32_t> places;
    for (std::int32_t channel = 0; channel < panel_channels; ++channel) {
      for (std::int32_t component = 0; component < step_components; ++component) {
        const std::int32_t place = place_in_part(channel, component, wide);
        const std::int32_t lane = channel % 8 * 4 + component / 4;
        CHECK((wide ? place % 256 / 8 : place / 16) == lane);
        CHECK((wide ? place / 256 : place % 16 / 8) == channel / 16);
        places.insert(place);
      }
    }
    CHECK(places.size() == part_elements);
    CHECK(*places.begin() == 0);
    CHECK(*places.rbegin() == part_elements - 1);
  }
  // A register of operand A holds two neighbours: component 4t and the next, of channel g, then of g + 8.
  CHECK(place_in_part(3, 6, false) == (3 * 4 + 1) * 16 + 4);
  CHECK(place_in_part(3, 7, false) == (3 * 4 + 1) * 16 + 5);
  CHECK(place_in_part(11, 6, false) == (3 * 4 + 1) * 16 + 6);
  CHECK(place_in_part(27, 5, true) == 256 + (3 * 4 + 1) * 8 + 3);
}

TEST_CASE("the packed basis holds every element where its part is", "[latent][plan]") {
  for (const test::LatentShape& shape : test::latent_shapes) {
    const test::Transform transform(shape);
    const LatentView& view = transform.view();
    const std::vector<std::uint8_t> narrow = pack_narrow(view);
    const std::vector<std::uint16_t> wide = pack_wide(view);
    REQUIRE(static_cast<std::int64_t>(narrow.size()) == (view.m - view.w) * view.n);
    REQUIRE(static_cast<std::int64_t>(wide.size()) == view.w * view.n);
    bool same = true;
    for (std::int64_t i = 0; i < view.m; ++i) {
      const bool is_wide = i < view.w;
      const std::int64_t row = is_wide ? i : i - view.w, n_rows = is_wide ? view.w : view.m - view.w;
      for (std::int64_t c = 0; c < view.n; ++c) {
        const std::int64_t part = c / panel_channels * (n_rows / step_components) + row / step_components;
        const std::int64_t at =
            part * part_elements + place_in_part(static_cast<std::int32_t>(c % panel_channels),
                                                 static_cast<std::int32_t>(row % step_components), is_wide);
        const auto place = static_cast<std::size_t>(at);
        same &= is_wide ? wide[place] == view.basis_wide[row * view.n + c]
                        : narrow[place] == view.basis[row * view.n + c] + 128;
      }
    }
    INFO("n " << shape.n << ", m " << shape.m << ", w " << shape.w);
    CHECK(same);
  }
}

TEST_CASE("pieces cover the wanted channels once, in their order, each within one scale of the basis",
          "[latent][plan]") {
  const std::vector<std::vector<ChannelRange>> choices = {
      {},
      {{0, 3840}},
      {{192, 192}, {2112, 192}},  // a layer of SmolLM2
      {{256, 768}, {2048, 768}},
      {{300, 7}, {0, 1}, {120, 17}, {500, 12}, {128, 129}},
      {{63, 1}, {64, 1}, {65, 0}, {127, 2}}};
  for (const std::vector<ChannelRange>& ranges : choices) {
    for (const std::int32_t width : {32, 64}) {
      std::vector<std::int64_t> wanted, found;
      for (const ChannelRange& range : ranges) {
        for (std::int64_t c = 0; c < range.count; ++c) wanted.push_back(range.first + c);
      }
      for (const Piece& piece : cut_channels(ranges, width)) {
        REQUIRE(piece.first % width == 0);
        REQUIRE(piece.first <= piece.begin);
        REQUIRE(piece.begin < piece.end);
        REQUIRE(piece.end <= piece.first + width);
        REQUIRE(piece.first / basis_scale_channels == (piece.end - 1) / basis_scale_channels);
        REQUIRE(piece.column == static_cast<std::int32_t>(found.size()));
        for (std::int32_t c = piece.begin; c < piece.end; ++c) found.push_back(c);
      }
      CHECK(found == wanted);
    }
  }
  const ChannelRange layer{192, 192};
  CHECK(cut_channels({&layer, 1}, 64) ==
        std::vector<Piece>{{192, 192, 256, 0}, {256, 256, 320, 64}, {320, 320, 384, 128}});
}

TEST_CASE("calls are cut into more CTAs the smaller they are", "[latent][plan]") {
  CHECK(decode_shape(384, 1, 132) == DecodeShape{1, 1});
  CHECK(decode_shape(384, 16, 132) == DecodeShape{1, 1});
  CHECK(decode_shape(384, 64, 132) == DecodeShape{2, 1});
  CHECK(decode_shape(3840, 16, 132) == DecodeShape{2, 2});
  CHECK(decode_shape(8192, 64, 132) == DecodeShape{2, 2});
  for (const std::int32_t multiprocessors : {1, 28, 84, 108, 132, 170}) {
    for (std::int64_t n_units = 1; n_units < 300; ++n_units) {
      const auto work = [&](std::int64_t units) {
        const DecodeShape shape = decode_shape(512, units, multiprocessors);
        return shape.panels * shape.units;
      };
      CHECK(work(n_units) <= work(n_units + 1));
      // Larger ones only where they leave no multiprocessor without a CTA.
      const DecodeShape shape = decode_shape(512, n_units, multiprocessors);
      const std::int64_t ctas =
          div_up<std::int64_t>(512, shape.channels()) * div_up<std::int64_t>(n_units, shape.units);
      if (work(n_units) > 1) CHECK(ctas >= multiprocessors);
    }
  }
}

TEST_CASE("pages are coded by halves where there are multiprocessors for both", "[latent][plan]") {
  CHECK_FALSE(whole_pages(2, 4, 132));  // the wide components of a slab
  CHECK_FALSE(whole_pages(34, 1, 132));
  CHECK(whole_pages(34, 4, 132));
  CHECK(whole_pages(34, 1, 46));
  CHECK(whole_pages(2, 4, 12));
}

TEST_CASE("blocks are those that have bits, where their codes are", "[latent][plan]") {
  const std::vector<std::uint8_t> bits{8, 0, 4, 2, 0, 1};
  const LatentLayout layout(bits);
  const std::vector<CodedBlock> blocks = coded_blocks(layout);
  REQUIRE(blocks.size() == 4);
  CHECK(blocks[0].component == 0);
  CHECK(blocks[1].component == 128);
  CHECK(blocks[1].offset == 64 * 16);
  CHECK(blocks[3].component == 320);
  CHECK(blocks[3].bits == 1);
  CHECK(blocks[3].offset + 64 * 2 == layout.unit_bytes());
}

TEST_CASE("a resident unit is one range of codes and one of scales", "[latent][plan]") {
  for (const KvLayout& layout :
       {KvLayout{3, 64, KvElement::i8}, KvLayout{2, 128, KvElement::i8}, KvLayout{1, 10, KvElement::i8}}) {
    std::set<std::int64_t> vectors, scales;
    for (const std::int32_t unit : {8, 9}) {
      for (std::int32_t head = 0; head < layout.n_kv_heads; ++head) {
        for (std::int32_t token = 0; token < unit_tokens; ++token) {
          vectors.insert(key_offset(layout, unit, head, token));
          vectors.insert(value_offset(layout, unit, head, token));
          scales.insert(key_scale_offset(layout, unit, head, token));
          scales.insert(value_scale_offset(layout, unit, head, token));
        }
      }
    }
    const auto n = static_cast<std::size_t>(2 * 2 * unit_tokens * layout.n_kv_heads);
    CHECK(vectors.size() == n);
    CHECK(scales.size() == n);
    CHECK(*vectors.begin() == 2 * layout.page_bytes());  // unit 8 begins page 2
    CHECK(*vectors.rbegin() + layout.head_dim == 2 * layout.page_bytes() + layout.page_bytes() / 2);
    CHECK(*scales.begin() == 2 * layout.page_scale_bytes());
    CHECK(*scales.rbegin() + 2 == 2 * layout.page_scale_bytes() + layout.page_scale_bytes() / 2);
  }
}

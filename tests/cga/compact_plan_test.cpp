// What is exact, and how many pages that takes: pure functions of positions and settings.
#include "cga/compact_plan.h"

#include "support/catch.h"

namespace cga {
namespace {

TEST_CASE("a query reads exactly the window in whole pages, and everything in short contexts") {
  const ExactRule rule{.window = 128, .sparse_from = 0};
  CHECK(rule.first_exact_page(0) == 0);
  CHECK(rule.first_exact_page(191) == 0);  // 191 - 128 = 63: still the first page
  CHECK(rule.first_exact_page(192) == 1);
  CHECK(rule.first_exact_page(255) == 1);
  CHECK(rule.first_exact_page(256) == 2);
  const ExactRule late{.window = 128, .sparse_from = 1024};
  CHECK(late.first_exact_page(1023) == 0);
  CHECK(late.first_exact_page(1024) == 14);
}

TEST_CASE("positions up to run_end share their first exact page") {
  for (const ExactRule rule : {ExactRule{0, 0}, ExactRule{64, 0}, ExactRule{128, 320}, ExactRule{512, 64}}) {
    for (std::int32_t position = 0; position < 1000; ++position) {
      const std::int32_t end = rule.run_end(position);
      REQUIRE(end > position);
      for (std::int32_t i = position; i < end; ++i) {
        REQUIRE(rule.first_exact_page(i) == rule.first_exact_page(position));
      }
    }
  }
}

TEST_CASE("the first exact page never falls, so that a coded page stays coded") {
  const ExactRule rule{.window = 192, .sparse_from = 448};
  for (std::int32_t i = 1; i < 2000; ++i) REQUIRE(rule.first_exact_page(i) >= rule.first_exact_page(i - 1));
}

TEST_CASE("held pages are enough at every length, whatever the settings") {
  for (const std::int32_t window : {0, 64, 1024}) {
    for (const std::int32_t sparse_from : {0, 256, 2048}) {
      for (const std::int32_t residents : {0, 100, 4096}) {
        for (const std::int32_t n_ctx : {1, 64, 65, 700, 3000}) {
          CAPTURE(window, sparse_from, residents, n_ctx);
          const CompactPlan plan({1.5, {window, sparse_from}, residents}, n_ctx);
          CHECK(plan.held_pages() <= div_up(n_ctx, page_tokens));
          for (std::int32_t n = 1; n <= n_ctx; ++n) {
            // A step at n-1 has sealed what it does not read exactly; residents come on top.
            const std::int32_t archived = plan.archived_pages(n - 1);
            const std::int32_t exact = div_up(n, page_tokens) - std::max(0, archived - 1);
            REQUIRE(exact <= plan.held_pages());
            const std::int32_t units = std::min(page_units * archived, plan.resident_units());
            REQUIRE(exact + div_up(units, resident_page_units) <= plan.held_pages());
          }
          // Every archived unit has a place: among the residents, or in a page that all layers share.
          const std::int32_t places = resident_page_units * plan.transient_pages() + plan.resident_units();
          CHECK(places >= page_units * plan.archived_pages());
          CHECK(plan.decode_transient_pages() <= plan.transient_pages());
        }
      }
    }
  }
}

}  // namespace
}  // namespace cga

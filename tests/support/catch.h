// Catch2 v2 (Debian 12) and v3 (Ubuntu 24.04) behind one include.
#pragma once

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
namespace cga::test {
using Catch::Approx;
}
#else
#include <catch2/catch.hpp>
namespace cga::test {
using Catch::Detail::Approx;  // in v2, Catch::Approx also finds a matcher of that name
}
#endif

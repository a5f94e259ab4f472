# Everything comes from distribution packages (Debian 12, Ubuntu 24.04); tools/install-packages lists them.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(spdlog REQUIRED)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(highway REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(libedit REQUIRED IMPORTED_TARGET libedit)
if(CGA_TESTS)
  find_package(Catch2 REQUIRED) # v2 or v3; tests/support/catch.h hides the difference
endif()

# Build options, language level and warnings shared by every target.
option(CGA_TESTS "Build the tests" ON)
option(CGA_BENCH "Build the kernel benchmarks" ON)
set(CGA_CUDA "AUTO" CACHE STRING "CUDA backend: ON (required), OFF, AUTO (where nvcc and kernels/cuda exist)")
set(CGA_SANITIZE "" CACHE STRING "Sanitizers, as for -fsanitize=")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

# -ffp-contract=off: a product and a sum are fused only where a kernel says so, so that the scalar
# oracle rounds alike with every compiler and at every optimisation level.
add_compile_options(-Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion -Wno-sign-conversion
                    -ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees overlaps in std::string's operator+ and overreads in std::vector's insert (bugs 105651, 107852).
  add_compile_options(-Wno-restrict -Wno-stringop-overread -Wno-stringop-overflow)
endif()
if(CGA_SANITIZE)
  add_compile_options(-fsanitize=${CGA_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${CGA_SANITIZE})
endif()

# The CUDA backend is a peer of the others: it exists as soon as its folder and nvcc do.
set(CGA_HAVE_CUDA FALSE)
if(CGA_CUDA STREQUAL "ON" OR (CGA_CUDA STREQUAL "AUTO" AND EXISTS ${CMAKE_SOURCE_DIR}/kernels/cuda))
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(CGA_HAVE_CUDA TRUE)
  elseif(CGA_CUDA STREQUAL "ON")
    message(FATAL_ERROR "CGA_CUDA=ON, but no CUDA compiler was found; install the CUDA toolkit or set CUDACXX")
  endif()
endif()

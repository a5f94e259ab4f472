# Build options, language level and warnings shared by every target.
option(CGA_TESTS "Build the tests" ON)
option(CGA_BENCH "Build the kernel benchmarks" ON)
set(CGA_CUDA "AUTO" CACHE STRING "CUDA backend: ON (required), OFF, AUTO (where nvcc and kernels/cuda exist)")
set(CGA_CUDA_ARCHITECTURES "80-virtual;90-real" CACHE STRING
    "As CMAKE_CUDA_ARCHITECTURES; the default runs on all from 8.0 on, best on 9.0 (the preset cuda-release: 80 to 90)")
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
set(cxx_flags -Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion -Wno-sign-conversion -ffp-contract=off)
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${cxx_flags}>")
# The host half of a .cu file is what nvcc makes of it: -Wpedantic and conversions would judge its code, not ours.
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Werror;--Werror=all-warnings>")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees overlaps in std::string's operator+ and overreads in std::vector's insert (bugs 105651, 107852).
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict;-Wno-stringop-overread;-Wno-stringop-overflow>")
endif()
if(CGA_SANITIZE)
  add_compile_options(
    "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${CGA_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>")
  add_link_options(-fsanitize=${CGA_SANITIZE})
endif()

# The CUDA backend is a peer of the others: it exists as soon as its folder and nvcc do.
set(CGA_HAVE_CUDA FALSE)
if(CGA_CUDA STREQUAL "ON" OR (CGA_CUDA STREQUAL "AUTO" AND EXISTS ${CMAKE_SOURCE_DIR}/kernels/cuda))
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES ${CGA_CUDA_ARCHITECTURES})
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION) # CMake 3.25 (Debian 12) does not know how nvcc is told
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    string(APPEND CMAKE_CUDA_FLAGS " --expt-relaxed-constexpr")
    set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -DNDEBUG")
    if(CCACHE)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
    endif()
    set(CGA_HAVE_CUDA TRUE)
  elseif(CGA_CUDA STREQUAL "ON")
    message(FATAL_ERROR "CGA_CUDA=ON, but no CUDA compiler was found; install the CUDA toolkit or set CUDACXX")
  endif()
endif()

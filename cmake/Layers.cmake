# One static library a layer, and registries generated from folder listings: adding a weight type, a model
# family or a command means adding a folder or a file, and no central list can be forgotten.
set(CGA_LAYER_TARGETS "" CACHE INTERNAL "")

function(cga_target name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LIBRARIES;SOURCES" ${ARGN})
  if(ARG_SOURCES)
    add_library(cga_${name} STATIC ${ARG_SOURCES})
    set(scope PUBLIC)
  else()
    add_library(cga_${name} INTERFACE) # headers only
    set(scope INTERFACE)
  endif()
  target_include_directories(cga_${name} ${scope} ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src
                                                  ${CMAKE_SOURCE_DIR})
  foreach(dependency ${ARG_DEPENDS})
    target_link_libraries(cga_${name} ${scope} cga_${dependency})
  endforeach()
  target_link_libraries(cga_${name} ${scope} ${ARG_LIBRARIES} Threads::Threads)
  set(CGA_LAYER_TARGETS ${CGA_LAYER_TARGETS} cga_${name} CACHE INTERNAL "")
endfunction()

# src/<name>/*.cpp
function(cga_layer name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp)
  cga_target(${name} SOURCES ${sources} ${ARGN})
endfunction()

# kernels/<name>/**.cpp
function(cga_kernels name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/${name}/*.cpp)
  cga_target(kernels_${name} SOURCES ${sources} ${ARGN})
endfunction()

# kernels/<name>/**.{cpp,cu}
function(cga_cuda_kernels name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/${name}/*.cpp
                                              ${CMAKE_SOURCE_DIR}/kernels/${name}/*.cu)
  cga_target(kernels_${name} SOURCES ${sources} ${ARGN} LIBRARIES CUDA::cudart_static CUDA::cublasLt)
endfunction()

# Writes `const std::vector<const TYPE*>& FUNCTION()` naming PREFIX_<folder>() for each given folder.
function(cga_generate_registry file header type function prefix)
  set(declarations "")
  set(entries "")
  foreach(name ${ARGN})
    string(APPEND declarations "const ${type}& ${prefix}_${name}();\n")
    string(APPEND entries "      &${prefix}_${name}(),\n")
  endforeach()
  file(GENERATE OUTPUT ${file} CONTENT "// Generated from the folder listing by cmake/Layers.cmake.
#include \"${header}\"

namespace cga {
${declarations}
std::vector<const ${type}*> ${function}() {
  return {
${entries}  };
}
}  // namespace cga
")
endfunction()

function(cga_folders out where marker)
  file(GLOB files CONFIGURE_DEPENDS ${where}/*/${marker})
  set(names "")
  foreach(path ${files})
    get_filename_component(folder ${path} DIRECTORY)
    get_filename_component(name ${folder} NAME)
    list(APPEND names ${name})
  endforeach()
  set(${out} ${names} PARENT_SCOPE)
endfunction()

# src/quant/<type>/type.cpp defines `const WeightType& weight_type_<type>()`.
function(cga_quant_layer name)
  cga_folders(types ${CMAKE_SOURCE_DIR}/src/quant type.cpp)
  set(registry ${CMAKE_BINARY_DIR}/generated/weight_types.cpp)
  cga_generate_registry(${registry} quant/weight_type.h WeightType weight_types weight_type ${types})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/quant/*.cpp)
  cga_target(${name} SOURCES ${sources} ${registry} ${ARGN})
endfunction()

# models/<family>/family.cpp defines `const Family& family_<family>()`.
function(cga_families name)
  cga_folders(families ${CMAKE_SOURCE_DIR}/models family.cpp)
  set(registry ${CMAKE_BINARY_DIR}/generated/families.cpp)
  cga_generate_registry(${registry} model/family.h Family families family ${families})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/models/*/family.cpp)
  cga_target(${name} SOURCES ${sources} ${registry} ${ARGN})
endfunction()

# The library users link: all layers behind include/cga. The layers know nothing of each other's order in
# the archive, so they are linked as one group.
function(cga_library name)
  add_library(${name} INTERFACE)
  target_include_directories(${name} INTERFACE ${CMAKE_SOURCE_DIR}/include)
  target_link_libraries(${name} INTERFACE cga_runtime)
endfunction()

# Warnings are errors; floating point is the same on every processor (no contraction, no fast math), because one seed
# must give one event log whatever the compiler and the CPU.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
add_library(faultline_flags INTERFACE)
target_compile_options(faultline_flags INTERFACE -Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion
  -Wno-sign-conversion -Wno-missing-field-initializers -ffp-contract=off -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports false positives of these inside the standard library at -O2.
  target_compile_options(faultline_flags INTERFACE -Wno-restrict -Wno-maybe-uninitialized -Wno-array-bounds
    -Wno-stringop-overflow -Wno-stringop-overread -Wno-free-nonheap-object)
endif()
target_include_directories(faultline_flags INTERFACE ${CMAKE_SOURCE_DIR})
if(FAULTLINE_CHECKS)
  target_compile_definitions(faultline_flags INTERFACE FAULTLINE_CHECKS=1)
endif()
if(FAULTLINE_SANITIZE)
  target_compile_options(faultline_flags INTERFACE -fsanitize=${FAULTLINE_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(faultline_flags INTERFACE -fsanitize=${FAULTLINE_SANITIZE})
endif()

find_program(FAULTLINE_CCACHE ccache)
if(FAULTLINE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
    ${FAULTLINE_CCACHE})
endif()

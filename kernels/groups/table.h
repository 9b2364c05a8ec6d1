// What a CPU level or the emulator exports: its kernels by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace faultline::kernels {

struct Grid {
  int x = 1, y = 1, z = 1;
  std::uint64_t seed = 1;  // of the emulator's schedule; ignored elsewhere
};

struct Entry {
  const char* name;
  std::size_t args_bytes;
  void (*run)(const void* args, const Grid& grid);
};

}  // namespace faultline::kernels

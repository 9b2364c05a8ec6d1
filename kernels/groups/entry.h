// Turns a list of kernels into entry points: on a GPU one kernel each, elsewhere one table of functions.
//
//   FAULTLINE_ENTRY(gemm_fp8_m32, GemmArgs, (gemm<Fp8, 32, Scaling::per_row>(b, args)))
//   FAULTLINE_TALL_ENTRY(gemm_fp8_m128, …)         a kernel of tall_tiles: on sm_90 it runs with a launch of its own
//   FAULTLINE_TABLE(gemm, FAULTLINE_KERNELS_GEMM)
#pragma once

#include "kernels/tile/tile.h"

#if defined(FAULTLINE_TILE_GFX942) || defined(FAULTLINE_TILE_SM90)

#define FAULTLINE_ENTRY(name, Args, call)                         \
  FAULTLINE_KERNEL(name)(faultline::kernels::Args args) {         \
    using namespace faultline::kernels;                           \
    using namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE; \
    const Block b{};                                              \
    FAULTLINE_KERNEL_BEGIN;                                       \
    call;                                                         \
  }
#if defined(FAULTLINE_TILE_SM90)
#define FAULTLINE_TALL_ENTRY(name, Args, call)                                                           \
  FAULTLINE_TALL_KERNEL(name)                                                                            \
  (faultline::kernels::Args args, const __grid_constant__ faultline::kernels::sm90::TallLaunch launch) { \
    using namespace faultline::kernels;                                                                  \
    using namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE;                                        \
    const TallBlock b{launch};                                                                           \
    call;                                                                                                \
  }
#else
#define FAULTLINE_TALL_ENTRY FAULTLINE_ENTRY
#endif
#define FAULTLINE_TABLE(group, list)

#else

#include "kernels/groups/table.h"

#if defined(FAULTLINE_TILE_EMULATOR)
#define FAULTLINE_RUN(call)                                 \
  emulator::launch(grid.x, grid.y, grid.z, grid.seed, [&] { \
    const Block b{};                                        \
    call;                                                   \
  })
#else
#define FAULTLINE_RUN(call)              \
  for (int z = 0; z < grid.z; ++z)       \
    for (int y = 0; y < grid.y; ++y)     \
      for (int x = 0; x < grid.x; ++x) { \
        const Block b{x, y, z};          \
        call;                            \
      }
#endif

#define FAULTLINE_ENTRY(name, Args, call)                    \
  namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {   \
  static void fl_##name(const void* raw, const Grid& grid) { \
    const Args& args = *static_cast<const Args*>(raw);       \
    FAULTLINE_RUN(call);                                     \
  }                                                          \
  }
#define FAULTLINE_TALL_ENTRY FAULTLINE_ENTRY
#define FAULTLINE_ROW(name, Args) {#name, sizeof(Args), fl_##name},
#define FAULTLINE_TABLE(group, list)                       \
  namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE { \
  std::span<const Entry> table_##group() {                 \
    static const Entry table[] = {list(FAULTLINE_ROW)};    \
    return table;                                          \
  }                                                        \
  }

#endif

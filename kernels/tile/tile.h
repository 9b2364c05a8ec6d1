// Picks the implementation of the tile layer for the translation unit. Exactly one of these is defined by the build:
//
//   FAULTLINE_TILE_GFX942    clang++-19 -x hip, device only           (MI300X)
//   FAULTLINE_TILE_SM90      nvcc for sm_90a                          (H100)
//   FAULTLINE_TILE_EMULATOR  the gfx942 code on fibers, tests only
//   FAULTLINE_TILE_CPU       loops; FAULTLINE_TILE_CPU names the level: cpu_v2, cpu_v3, cpu_v4, cpu_portable
//
// A kernel is a template or function over `const Block&`: a block program. Code between operations runs once on the CPU
// and on each of the 256 threads of a GPU block, so everything that writes memory stands inside an operation:
//
//   each(n, f)              f(i) for i < n, spread over the block's threads
//   sweep(p, n, f)          f(i, p[i]) over a whole row of memory
//   rows(n, f)              f(r, wave): one wave (CPU: one loop) works on row r
//   Wave::each max_of sum_of best_of once sync
//   Acc<M, N>               a matrix of floats spread over the block's registers; zero, map, fold
//   mma_stream              acc += rows x pre-shuffled weights, double buffered, whole K loop
//   mma_rows                acc += A x B^T with B in row-major global memory (scores)
//   mma_columns             acc += A x B with B in row-major global memory (probabilities x values)
//   barrier shared atomic_add exp2 to_fp8 from_fp8 to_bf16 from_bf16
//
// All four implementations live in namespaces of their own, so that one binary can hold several (also: the CPU levels
// must not share inline functions, or the linker would keep one level's code for all).
#pragma once

#include "kernels/tile/types.h"

#if defined(FAULTLINE_TILE_GFX942)
#define FAULTLINE_TILE_NAMESPACE gfx942
#include "kernels/tile/simt_gfx942.h"

#include "kernels/tile/gpu.h"
#elif defined(FAULTLINE_TILE_SM90)
#define FAULTLINE_TILE_NAMESPACE sm90
#include "kernels/tile/simt_sm90.h"

#include "kernels/tile/gpu.h"
#elif defined(FAULTLINE_TILE_EMULATOR)
#define FAULTLINE_TILE_NAMESPACE emulated
#include "kernels/emulator/simt_emulator.h"

#include "kernels/tile/gpu.h"
#elif defined(FAULTLINE_TILE_CPU)
#define FAULTLINE_TILE_NAMESPACE FAULTLINE_TILE_CPU
#include "kernels/tile/cpu.h"
#else
#error "no tile implementation chosen"
#endif

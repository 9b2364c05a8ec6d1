// Entry points of ops/gemm.h. Compiled for each target by CMakeLists.txt; never part of a target by itself.
#include "kernels/groups/entry.h"
#include "kernels/groups/list.h"

// After entry.h, which chooses the implementation of the tile layer.
#include "kernels/ops/gemm.h"

FAULTLINE_ENTRY(gemm_fp8_m32, GemmArgs, (gemm<Fp8, 32, Scaling::per_row>(b, args)))
FAULTLINE_ENTRY(gemm_fp8_m64, GemmArgs, (gemm<Fp8, 64, Scaling::per_row>(b, args)))
FAULTLINE_TALL_ENTRY(gemm_fp8_m128, GemmArgs, (gemm_tall<Fp8, Scaling::per_row>(b, args)))
FAULTLINE_ENTRY(gemm_fp8_reduce, GemmArgs, (gemm_reduce<Scaling::per_row>(b, args)))
FAULTLINE_ENTRY(gemm_fp8_blocks_m32, GemmArgs, (gemm<Fp8, 32, Scaling::blocks>(b, args)))
FAULTLINE_ENTRY(gemm_fp8_blocks_m64, GemmArgs, (gemm<Fp8, 64, Scaling::blocks>(b, args)))
FAULTLINE_TALL_ENTRY(gemm_fp8_blocks_m128, GemmArgs, (gemm_tall<Fp8, Scaling::blocks>(b, args)))
FAULTLINE_ENTRY(gemm_plain_reduce, GemmArgs, (gemm_reduce<Scaling::none>(b, args)))
FAULTLINE_ENTRY(gemm_bf16_m32, GemmArgs, (gemm<Bf16, 32, Scaling::none>(b, args)))
FAULTLINE_ENTRY(gemm_bf16_m64, GemmArgs, (gemm<Bf16, 64, Scaling::none>(b, args)))
FAULTLINE_TALL_ENTRY(gemm_bf16_m128, GemmArgs, (gemm_tall<Bf16, Scaling::none>(b, args)))
FAULTLINE_ENTRY(quantize_rows, QuantizeArgs, (quantize(b, args)))
FAULTLINE_TABLE(gemm, FAULTLINE_KERNELS_GEMM)

// wgmma of sm_90a: a warpgroup of 128 threads multiplies 64 x K (A) by K x N (B), both in shared memory and described
// by 64-bit descriptors; the sums stay in registers. Source: PTX ISA 8, "Asynchronous warpgroup level matrix
// instructions".
#pragma once

namespace faultline::kernels::sm90 {

// The statements differ in N, in the element type and so in K (32 bytes) alone. Their operands are spelled out because
// inline assembly takes no lists: N / 2 floats a thread, named row by row, and numbered in the text in the same order.
#define FAULTLINE_WGMMA_ROW(io, i) io(d[i][0]), io(d[i][1]), io(d[i][2]), io(d[i][3])
#define FAULTLINE_WGMMA_ROWS4(io, i) \
  FAULTLINE_WGMMA_ROW(io, i)         \
  , FAULTLINE_WGMMA_ROW(io, i + 1), FAULTLINE_WGMMA_ROW(io, i + 2), FAULTLINE_WGMMA_ROW(io, i + 3)
#define FAULTLINE_WGMMA_ROWS8(io, i) FAULTLINE_WGMMA_ROWS4(io, i), FAULTLINE_WGMMA_ROWS4(io, i + 4)
#define FAULTLINE_WGMMA_ROWS16(io, i) FAULTLINE_WGMMA_ROWS8(io, i), FAULTLINE_WGMMA_ROWS8(io, i + 8)

#define FAULTLINE_WGMMA_NUMBERS4 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define FAULTLINE_WGMMA_NUMBERS8 \
  FAULTLINE_WGMMA_NUMBERS4       \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FAULTLINE_WGMMA_NUMBERS16                                                    \
  FAULTLINE_WGMMA_NUMBERS8                                                           \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

#define FAULTLINE_WGMMA_ADDS "+f"
#define FAULTLINE_WGMMA_SETS "=f"

/// wgmma adds to d, wgmma_first overwrites it. rows: N / 8; shape: "m64n.k..f32.A.B"; a_at, b_at: numbers of the two
/// descriptors, behind those of d; transposed: what BF16 says beside (both K-major).
#define FAULTLINE_WGMMA(name, Element, rows, io, predicate, shape, a_at, b_at, transposed)                             \
  FAULTLINE_DEV void name(Element, float(&d)[rows][4], std::uint64_t a, std::uint64_t b) {                             \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, " predicate                                                           \
                 ", 0; "                                                                                               \
                 "wgmma.mma_async.sync.aligned." shape " {" FAULTLINE_WGMMA_NUMBERS##rows "}, " a_at ", " b_at         \
                                                                                          ", p, 1, 1" transposed "; }" \
                 : FAULTLINE_WGMMA_ROWS##rows(io, 0)                                                                   \
                 : "l"(a), "l"(b));                                                                                    \
  }
#define FAULTLINE_WGMMA_OF(rows, n, a_at, b_at)                                                                    \
  FAULTLINE_WGMMA(wgmma, Fp8, rows, FAULTLINE_WGMMA_ADDS, "1", "m64n" n "k32.f32.e4m3.e4m3", a_at, b_at, "")       \
  FAULTLINE_WGMMA(wgmma_first, Fp8, rows, FAULTLINE_WGMMA_SETS, "0", "m64n" n "k32.f32.e4m3.e4m3", a_at, b_at, "") \
  FAULTLINE_WGMMA(wgmma, Bf16, rows, FAULTLINE_WGMMA_ADDS, "1", "m64n" n "k16.f32.bf16.bf16", a_at, b_at, ", 0, 0")

FAULTLINE_WGMMA_OF(4, "32", "%16", "%17")
FAULTLINE_WGMMA_OF(8, "64", "%32", "%33")
FAULTLINE_WGMMA_OF(16, "128", "%64", "%65")

#undef FAULTLINE_WGMMA_OF
#undef FAULTLINE_WGMMA
#undef FAULTLINE_WGMMA_SETS
#undef FAULTLINE_WGMMA_ADDS
#undef FAULTLINE_WGMMA_NUMBERS16
#undef FAULTLINE_WGMMA_NUMBERS8
#undef FAULTLINE_WGMMA_NUMBERS4
#undef FAULTLINE_WGMMA_ROWS16
#undef FAULTLINE_WGMMA_ROWS8
#undef FAULTLINE_WGMMA_ROWS4
#undef FAULTLINE_WGMMA_ROW

}  // namespace faultline::kernels::sm90

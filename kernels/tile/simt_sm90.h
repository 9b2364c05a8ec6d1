// The sm_90 dialect for nvcc: warp 32, mma.sync, FN floats.
#pragma once

#include <cuda_fp8.h>

#include "kernels/tile/memory_sm90.h"

#define FAULTLINE_DEV __device__ __forceinline__
#define FAULTLINE_KERNEL(name) \
  extern "C" __global__ void __launch_bounds__(256, faultline::kernels::sm90::blocks_each(#name)) fl_##name
#define FAULTLINE_TALL_KERNEL(name) \
  extern "C" __global__ void __launch_bounds__(faultline::kernels::sm90::kTallThreads, 1) fl_##name
// A kernel's blocks may be placed before the kernel ahead of it in the stream has ended (runtime/gpu.cpp): they wait
// here for its end and its writes, and then let the next kernel's blocks be placed.
#define FAULTLINE_KERNEL_BEGIN asm volatile("griddepcontrol.wait; griddepcontrol.launch_dependents;" ::: "memory")
#define FAULTLINE_SHARED(T, name, n) __shared__ __align__(16) T name[n]
#define FAULTLINE_UNROLL _Pragma("unroll")
#define FAULTLINE_UNROLL_LOADS _Pragma("unroll 8")  // several loads under way at once; eight suit this device better

namespace faultline::kernels::sm90 {

/// Blocks of a kernel that a multiprocessor should hold: two, for which the compiler keeps to 128 registers; one for
/// tiles of 128 rows and for prefill, whose accumulators need more; four that only join what others left.
constexpr int blocks_each(const char* name) {
  for (const char* c = name; *c != 0; ++c) {
    if (c[0] == '_' && c[1] == 'm' && c[2] == 'e' && c[3] == 'r') return 4;
    if ((c[0] == '1' && c[1] == '2' && c[2] == '8') || (c[0] == 'p' && c[1] == 'r' && c[2] == 'e' && c[3] == 'f'))
      return 1;
  }
  return 2;
}

struct __align__(16) Chunk {
  std::uint32_t v[4];
  __device__ std::uint32_t& operator[](int i) { return v[i]; }
  __device__ std::uint32_t operator[](int i) const { return v[i]; }
};
template <class T>
using Lds = T*;
template <class To>
FAULTLINE_DEV Lds<To> lds_as(Lds<std::uint8_t> memory) {
  return reinterpret_cast<To*>(memory);
}

inline constexpr int kWave = 32;
inline constexpr float kFp8Max = 448.0F, kFp8Target = 448.0F;

FAULTLINE_DEV int thread_index() { return static_cast<int>(threadIdx.x); }
FAULTLINE_DEV int block_x() { return static_cast<int>(blockIdx.x); }
FAULTLINE_DEV int block_y() { return static_cast<int>(blockIdx.y); }
FAULTLINE_DEV int block_z() { return static_cast<int>(blockIdx.z); }
FAULTLINE_DEV int lane() { return static_cast<int>(threadIdx.x & 31); }
FAULTLINE_DEV std::uint8_t* dynamic_memory() {
  extern __shared__ __align__(1024) std::uint8_t dynamic[];  // wgmma's swizzled tiles start at multiples of 1024 bytes
  return dynamic;
}
FAULTLINE_DEV void sync() { __syncthreads(); }
FAULTLINE_DEV void wave_sync() { __syncwarp(); }
FAULTLINE_DEV std::uint32_t shuffle_xor(std::uint32_t v, int mask) { return __shfl_xor_sync(~0U, v, mask); }
FAULTLINE_DEV float hw_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FAULTLINE_DEV float hw_rsqrt(float x) { return rsqrtf(x); }
FAULTLINE_DEV float clamp_fp8(float v) { return v != v ? v : fminf(fmaxf(v, -kFp8Max), kFp8Max); }
// One instruction. Values are clamped before; without __NV_SATFINITE the header converts in software, through doubles.
FAULTLINE_DEV std::uint8_t convert_fp8(float v) { return __nv_cvt_float_to_fp8(v, __NV_SATFINITE, __NV_E4M3); }
FAULTLINE_DEV float expand_fp8(std::uint8_t v) { return __half2float(__half(__nv_cvt_fp8_to_halfraw(v, __NV_E4M3))); }
FAULTLINE_DEV float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }

template <class T>
FAULTLINE_DEV T atomic_add_any(T* p, T v) {
  if constexpr (sizeof(T) == 8) {
    return static_cast<T>(atomicAdd(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(v)));
  } else {
    return atomicAdd(p, v);
  }
}
template <class T>
FAULTLINE_DEV T atomic_add_shared(T* p, T v) {
  return atomic_add_any(p, v);
}
template <class T>
FAULTLINE_DEV T atomic_add_global(T* p, T v) {
  return atomic_add_any(p, v);
}
FAULTLINE_DEV void atomic_or_global(std::uint32_t* p, std::uint32_t v) { atomicOr(p, v); }
FAULTLINE_DEV std::uint32_t load_system(const std::uint32_t* p) {
  std::uint32_t v;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
FAULTLINE_DEV void store_system(std::uint32_t* p, std::uint32_t v) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
FAULTLINE_DEV void pause() { __nanosleep(100); }

// Shared memory as the instructions below address it.
FAULTLINE_DEV std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// Asynchronous copies to shared memory. The 16-byte one writes zeros when `there` is false and then reads nothing.
FAULTLINE_DEV void copy_async16(std::uint32_t to, const void* from, bool there = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
FAULTLINE_DEV void copy_async4(std::uint32_t to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}
FAULTLINE_DEV void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// All but the last N groups of this thread have arrived.
template <int N>
FAULTLINE_DEV void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
/// Makes this thread's writes to shared memory visible to wgmma; a barrier must follow.
FAULTLINE_DEV void show_to_wgmma() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

FAULTLINE_DEV void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
FAULTLINE_DEV void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
FAULTLINE_DEV void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/// Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
FAULTLINE_DEV void load_matrices(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
FAULTLINE_DEV void load_turned(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

FAULTLINE_DEV std::uint16_t convert_bf16(float v) {
  std::uint16_t r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(v));
  return r;
}

struct Half {};
FAULTLINE_DEV std::uint16_t convert_half(float v) {
  std::uint16_t r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(v));
  return r;
}
/// The two FP8 codes in the low half of v as half floats; exact.
FAULTLINE_DEV std::uint32_t half_of_fp8(std::uint32_t v) {
  std::uint32_t r;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(static_cast<std::uint16_t>(v)));
  return r;
}

// d += a x b for one 16x8 tile over 32 bytes of K.
template <class T>
FAULTLINE_DEV void mma16x8(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  if constexpr (__is_same(T, Half)) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else if constexpr (T::kBytes == 1) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

}  // namespace faultline::kernels::sm90

// The sm_90 dialect for nvcc: warp 32, mma.sync, FN floats.
#pragma once

#include <cuda_fp8.h>

#define FAULTLINE_DEV __device__ __forceinline__
#define FAULTLINE_KERNEL extern "C" __global__ void __launch_bounds__(256)
#define FAULTLINE_SHARED(T, name, n) __shared__ __align__(16) T name[n]
#define FAULTLINE_UNROLL _Pragma("unroll")
#define FAULTLINE_UNROLL_FOUR _Pragma("unroll 4")  // several loads under way at once

namespace faultline::kernels::sm90 {

struct __align__(16) Chunk {
  std::uint32_t v[4];
  __device__ std::uint32_t& operator[](int i) { return v[i]; }
  __device__ std::uint32_t operator[](int i) const { return v[i]; }
};
template <class T>
using Lds = T*;
template <class To>
FAULTLINE_DEV Lds<To> lds_as(Lds<std::uint8_t> memory) { return reinterpret_cast<To*>(memory); }

inline constexpr int kWave = 32;
inline constexpr float kFp8Max = 448.0F, kFp8Target = 448.0F;

FAULTLINE_DEV int thread_index() { return static_cast<int>(threadIdx.x); }
FAULTLINE_DEV int block_x() { return static_cast<int>(blockIdx.x); }
FAULTLINE_DEV int block_y() { return static_cast<int>(blockIdx.y); }
FAULTLINE_DEV int block_z() { return static_cast<int>(blockIdx.z); }
FAULTLINE_DEV int lane() { return static_cast<int>(threadIdx.x & 31); }
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
FAULTLINE_DEV std::uint8_t convert_fp8(float v) { return __nv_cvt_float_to_fp8(v, __NV_NOSAT, __NV_E4M3); }
FAULTLINE_DEV float expand_fp8(std::uint8_t v) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(v, __NV_E4M3)));
}
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
FAULTLINE_DEV T atomic_add_shared(T* p, T v) { return atomic_add_any(p, v); }
template <class T>
FAULTLINE_DEV T atomic_add_global(T* p, T v) { return atomic_add_any(p, v); }
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

// d += a x b for one 16x8 tile over 32 bytes of K. a: rows g and g+8; the two words of each are K bytes of the fragment.
template <class T>
FAULTLINE_DEV void mma16x8(float (&d)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2, std::uint32_t a3,
                           std::uint32_t b0, std::uint32_t b1) {
  if constexpr (T::kBytes == 1) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

}  // namespace faultline::kernels::sm90

// The gfx942 dialect over compiler builtins: wave 64, MFMA, hardware FP8 conversion. Compiled by clang-19 with
// -nogpulib -nogpuinc; nothing from ROCm is needed.
#pragma once

#define FAULTLINE_DEV __attribute__((device, always_inline)) inline
#define FAULTLINE_KERNEL(name)                                             \
  extern "C" __attribute__((global, amdgpu_flat_work_group_size(256, 256), \
                            amdgpu_waves_per_eu(faultline::kernels::gfx942::waves_each(#name)))) void fl_##name
#define FAULTLINE_KERNEL_BEGIN
#define FAULTLINE_SHARED(T, name, n) __attribute__((shared, aligned(16))) static T name[n]
#define FAULTLINE_UNROLL _Pragma("unroll")
#define FAULTLINE_UNROLL_LOADS _Pragma("unroll 4")  // several loads under way at once

namespace faultline::kernels::gfx942 {

using f4 = float __attribute__((ext_vector_type(4)));
using f16v = float __attribute__((ext_vector_type(16)));
using Chunk = std::uint32_t __attribute__((ext_vector_type(4)));
using s4 = short __attribute__((ext_vector_type(4)));
template <class T>
using Lds = T*;
template <class To>
FAULTLINE_DEV Lds<To> lds_as(Lds<std::uint8_t> memory) {
  return reinterpret_cast<To*>(memory);
}

/// Waves that a SIMD should hold: two, for which the compiler keeps to 256 registers; one for kernels of which LDS
/// holds a single block.
constexpr int waves_each(const char* name) {
  auto starts = [&](const char* word) {
    const char* c = name;
    while (*word != 0 && *c == *word) ++c, ++word;
    return *word == 0;
  };
  return starts("mla_prefill") || starts("gqa_prefill") || starts("moe_gate_up_m64") ? 1 : 2;
}

inline constexpr int kWave = 64;
inline constexpr float kFp8Max = 240.0F, kFp8Target = 224.0F;

FAULTLINE_DEV int thread_index() { return static_cast<int>(__builtin_amdgcn_workitem_id_x()); }
FAULTLINE_DEV int block_x() { return static_cast<int>(__builtin_amdgcn_workgroup_id_x()); }
FAULTLINE_DEV int block_y() { return static_cast<int>(__builtin_amdgcn_workgroup_id_y()); }
FAULTLINE_DEV int block_z() { return static_cast<int>(__builtin_amdgcn_workgroup_id_z()); }
FAULTLINE_DEV int lane() {
  return static_cast<int>(__builtin_amdgcn_mbcnt_hi(~0U, __builtin_amdgcn_mbcnt_lo(~0U, 0U)));
}
FAULTLINE_DEV void sync() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
// Lanes of a wave run in lockstep; the fence only keeps the compiler from moving memory accesses across.
FAULTLINE_DEV void wave_sync() {
  __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
  __builtin_amdgcn_wave_barrier();
}
FAULTLINE_DEV std::uint32_t shuffle_xor(std::uint32_t v, int mask) {
  return static_cast<std::uint32_t>(__builtin_amdgcn_ds_bpermute((lane() ^ mask) << 2, static_cast<int>(v)));
}
FAULTLINE_DEV float hw_exp2(float x) { return __builtin_amdgcn_exp2f(x); }
// Both steps correctly rounded, as on the CPU; asked for once a row.
FAULTLINE_DEV float hw_rsqrt(float x) { return 1.0F / __builtin_sqrtf(x); }
FAULTLINE_DEV float clamp_fp8(float v) { return __builtin_amdgcn_fmed3f(v, kFp8Max, -kFp8Max); }
FAULTLINE_DEV std::uint8_t convert_fp8(float v) {
  return static_cast<std::uint8_t>(__builtin_amdgcn_cvt_pk_fp8_f32(v, v, 0, false));
}
FAULTLINE_DEV float expand_fp8(std::uint8_t v) { return __builtin_amdgcn_cvt_f32_fp8(v, 0); }
FAULTLINE_DEV float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

template <class T>
FAULTLINE_DEV T atomic_add_shared(T* p, T v) {
  return __hip_atomic_fetch_add(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
}
template <class T>
FAULTLINE_DEV T atomic_add_global(T* p, T v) {
  return __hip_atomic_fetch_add(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
FAULTLINE_DEV void atomic_or_global(std::uint32_t* p, std::uint32_t v) {
  __hip_atomic_fetch_or(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
// A flag another agent (host, NIC, peer GPU) writes.
FAULTLINE_DEV std::uint32_t load_system(const std::uint32_t* p) {
  return __hip_atomic_load(p, __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_SYSTEM);
}
FAULTLINE_DEV void store_system(std::uint32_t* p, std::uint32_t v) {
  __hip_atomic_store(p, v, __ATOMIC_RELEASE, __HIP_MEMORY_SCOPE_SYSTEM);
}
FAULTLINE_DEV void pause() { __builtin_amdgcn_s_sleep(1); }

template <class T>
FAULTLINE_DEV f4 mfma16(std::uint64_t a, std::uint64_t b, f4 c) {
  if constexpr (T::kBytes == 1) {
    return __builtin_amdgcn_mfma_f32_16x16x32_fp8_fp8(static_cast<long>(a), static_cast<long>(b), c, 0, 0, 0);
  } else {
    return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(__builtin_bit_cast(s4, a), __builtin_bit_cast(s4, b), c, 0, 0, 0);
  }
}
template <class T>
FAULTLINE_DEV f16v mfma32(std::uint64_t a, std::uint64_t b, f16v c) {
  if constexpr (T::kBytes == 1) {
    return __builtin_amdgcn_mfma_f32_32x32x16_fp8_fp8(static_cast<long>(a), static_cast<long>(b), c, 0, 0, 0);
  } else {
    return __builtin_amdgcn_mfma_f32_32x32x8bf16_1k(__builtin_bit_cast(s4, a), __builtin_bit_cast(s4, b), c, 0, 0, 0);
  }
}

}  // namespace faultline::kernels::gfx942

// The gfx942 dialect on fibers: what simt_gfx942.h takes from compiler builtins, done by emulator.h.
#pragma once

#include <cmath>
#include <cstring>

#include "kernels/emulator/emulator.h"
#include "kernels/tile/fp8.h"

#define FAULTLINE_DEV inline
#define FAULTLINE_UNROLL
#define FAULTLINE_UNROLL_LOADS

namespace faultline::kernels::emulator {

// An LDS array with its bounds. Arithmetic keeps them; a cast to a plain pointer drops them.
template <class T>
struct CheckedLds {
  T* first;
  int size;
  T& operator[](int i) const {
    if (i < 0 || i >= size) fail("LDS index " + std::to_string(i) + " outside 0 … " + std::to_string(size - 1));
    return first[i];
  }
  CheckedLds operator+(int offset) const { return {first + offset, size - offset}; }
  operator T*() const { return first; }
};
template <class T>
CheckedLds<T> claim_lds(T* memory, int n) {
  register_lds(memory, sizeof(T) * static_cast<std::size_t>(n), sizeof(T));
  return {memory, n};
}

}  // namespace faultline::kernels::emulator

namespace faultline::kernels::emulated {

using f4 = float __attribute__((vector_size(16)));
using f16v = float __attribute__((vector_size(64)));
using Chunk = std::uint32_t __attribute__((vector_size(16), may_alias));
template <class T>
using Lds = emulator::CheckedLds<T>;
template <class To>
Lds<To> lds_as(Lds<std::uint8_t> memory) {
  return {reinterpret_cast<To*>(memory.first), memory.size / static_cast<int>(sizeof(To))};
}

inline constexpr int kWave = 64;
inline constexpr float kFp8Max = 240.0F, kFp8Target = 224.0F;

inline int thread_index() { return emulator::thread_index(); }
inline int block_x() { return emulator::block_coordinate(0); }
inline int block_y() { return emulator::block_coordinate(1); }
inline int block_z() { return emulator::block_coordinate(2); }
inline int lane() { return emulator::thread_index() & (kWave - 1); }
__attribute__((always_inline)) inline void sync() { emulator::block_barrier(); }
__attribute__((always_inline)) inline void wave_sync() { emulator::wave_sync(); }
__attribute__((always_inline)) inline std::uint32_t shuffle_xor(std::uint32_t v, int mask) {
  std::memcpy(emulator::wave_slot(lane()), &v, sizeof v);
  void* from = emulator::wave_slot(lane() ^ mask);
  emulator::wave_meet(nullptr);
  std::memcpy(&v, from, sizeof v);
  emulator::next_set();
  return v;
}
inline float hw_rsqrt(float x) { return 1.0F / std::sqrt(x); }
inline float clamp_fp8(float v) {
  if (emulator::planted().no_clamp) return v;
  return v > kFp8Max ? kFp8Max : v < -kFp8Max ? -kFp8Max : v;
}
inline std::uint8_t convert_fp8(float v) { return fp8_encode_unclamped(v, Fp8Format::fnuz); }
inline float expand_fp8(std::uint8_t v) { return fp8_decode(v, Fp8Format::fnuz); }
inline float fused(float a, float b, float c) { return std::fma(a, b, c); }

template <class T>
T atomic_add_shared(T* p, T v) {
  const T old = *p;
  *p = static_cast<T>(old + v);
  return old;
}
template <class T>
T atomic_add_global(T* p, T v) {
  return atomic_add_shared(p, v);
}
inline void atomic_or_global(std::uint32_t* p, std::uint32_t v) { *p |= v; }
inline std::uint32_t load_system(const std::uint32_t* p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
inline void store_system(std::uint32_t* p, std::uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
inline void pause() {}

// The operands of the 64 lanes meet in the slots: a (8 bytes), b (8), then c. Defined in emulator/matrix.cpp.
void mfma_collective(void* slots, bool wide, bool bf16);
template <bool Wide, bool IsBf16>
void mfma_entry(void* slots) {
  mfma_collective(slots, Wide, IsBf16);
}

template <class T, bool Wide, class V>
__attribute__((always_inline)) inline V mfma(std::uint64_t a, std::uint64_t b, V c) {
  char* slot = static_cast<char*>(emulator::wave_slot(lane()));
  std::memcpy(slot, &a, 8);
  std::memcpy(slot + 8, &b, 8);
  std::memcpy(slot + 16, &c, sizeof c);
  emulator::wave_meet(mfma_entry<Wide, T::kBytes == 2>);
  std::memcpy(&c, slot + 16, sizeof c);
  emulator::next_set();
  return c;
}
template <class T>
__attribute__((always_inline)) inline f4 mfma16(std::uint64_t a, std::uint64_t b, f4 c) {
  return mfma<T, false>(a, b, c);
}
template <class T>
__attribute__((always_inline)) inline f16v mfma32(std::uint64_t a, std::uint64_t b, f16v c) {
  return mfma<T, true>(a, b, c);
}

}  // namespace faultline::kernels::emulated

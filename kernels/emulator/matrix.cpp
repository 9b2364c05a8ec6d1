// MFMA as an operation of a whole wave, with the register layout of the hardware written down once more, independently
// of tile/gpu.h: source AMD Instinct MI300 ISA reference, "Matrix arithmetic instructions", and confirmed by what the
// AMD matrix instruction calculator prints for v_mfma_f32_16x16x32_fp8_fp8 and v_mfma_f32_32x32x16_fp8_fp8.
#include <array>
#include <cstring>

#include "kernels/emulator/cdna3.h"
#include "kernels/emulator/emulator.h"
#include "kernels/tile/fp8.h"

namespace faultline::kernels::emulated {
namespace {

constexpr std::size_t kSlotBytes = 128;

const std::array<float, 256>& fnuz_values() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> t{};
    for (int i = 0; i < 256; ++i) t[i] = fp8_decode(static_cast<std::uint8_t>(i), Fp8Format::fnuz);
    return t;
  }();
  return table;
}

// c[j] += the products of row a and column j of b, by the arithmetic of the hardware.
template <int N, int kK, bool IsBf16>
void add_as_cdna3(const float (&a)[kK], const float (&b)[kK][N], float (&c)[N]) {
  constexpr int kAtOnce = IsBf16 ? 8 : 16, kLeast = IsBf16 ? -126 : -7;  // smallest normal exponents of bf16 and FNUZ
  int of_a[kK];
  for (int k = 0; k < kK; ++k) of_a[k] = emulator::alignment_exponent(a[k], kLeast);
  for (int j = 0; j < N; ++j)
    for (int first = 0; first < kK; first += kAtOnce) {
      float products[kAtOnce];
      int exponents[kAtOnce];
      for (int k = 0; k < kAtOnce; ++k) {
        products[k] = a[first + k] * b[first + k][j];
        const int of_b = emulator::alignment_exponent(b[first + k][j], kLeast);
        const bool none = of_a[first + k] == emulator::kNoExponent || of_b == emulator::kNoExponent;
        exponents[k] = none ? emulator::kNoExponent : of_a[first + k] + of_b;
      }
      c[j] = emulator::cdna3_add(products, exponents, kAtOnce, c[j], !IsBf16);
    }
}

// n x n result; each lane carries `per_lane` consecutive K elements of row/column lane % n, starting at (lane / n) *
// per_lane.
template <int N, int PerLane, bool IsBf16>
void multiply(char* slots) {
  constexpr int kGroups = 64 / N, kK = kGroups * PerLane, kRegisters = N * N / 64;
  static float a[N][kK], b[kK][N];
  const auto& fp8 = fnuz_values();
  for (int lane = 0; lane < 64; ++lane) {
    const char* slot = slots + lane * kSlotBytes;
    for (int i = 0; i < PerLane; ++i) {
      float va = 0, vb = 0;
      if constexpr (IsBf16) {
        std::uint16_t ha = 0, hb = 0;
        std::memcpy(&ha, slot + 2 * i, 2);
        std::memcpy(&hb, slot + 8 + 2 * i, 2);
        va = bf16_to_float(ha);
        vb = bf16_to_float(hb);
      } else {
        va = fp8[static_cast<unsigned char>(slot[i])];
        vb = fp8[static_cast<unsigned char>(slot[8 + i])];
      }
      a[lane % N][lane / N * PerLane + i] = va;
      b[lane / N * PerLane + i][lane % N] = vb;
    }
  }
  // Result: column lane % N; register r holds row 4 * (lane / N) + r % 4 + (4 * kGroups) * (r / 4).
  for (int i = 0; i < N; ++i) {
    const int group = i / 4 % kGroups, reg = i % 4 + 4 * (i / (4 * kGroups));
    const int target = emulator::planted().swapped_accumulator_rows && reg % 4 < 2 ? reg ^ 1 : reg;
    float c[N];
    for (int j = 0; j < N; ++j) std::memcpy(&c[j], slots + (group * N + j) * kSlotBytes + 16 + 4 * reg, 4);
    if (emulator::arithmetic() == emulator::Arithmetic::cdna3) {
      add_as_cdna3<N, kK, IsBf16>(a[i], b, c);
    } else {
      for (int k = 0; k < kK; ++k)
        for (int j = 0; j < N; ++j) c[j] += a[i][k] * b[k][j];
    }
    // Two buffers are not needed: row i touches only register `reg` of its lanes, or swaps within a pair of planted
    // rows.
    if (target == reg) {
      for (int j = 0; j < N; ++j) std::memcpy(slots + (group * N + j) * kSlotBytes + 16 + 4 * reg, &c[j], 4);
    } else if (reg % 2 == 0) {
      // Planted: this row's result waits in `held` until its partner, computed next, has been read.
      static float held[64];
      std::memcpy(held, c, sizeof c);
      float d[N];
      for (int j = 0; j < N; ++j) std::memcpy(&d[j], slots + (group * N + j) * kSlotBytes + 16 + 4 * (reg + 1), 4);
      for (int k = 0; k < kK; ++k)
        for (int j = 0; j < N; ++j) d[j] += a[i + 1][k] * b[k][j];
      for (int j = 0; j < N; ++j) {
        std::memcpy(slots + (group * N + j) * kSlotBytes + 16 + 4 * reg, &d[j], 4);
        std::memcpy(slots + (group * N + j) * kSlotBytes + 16 + 4 * (reg + 1), &held[j], 4);
      }
      ++i;
    }
  }
  static_assert(kRegisters == 4 || kRegisters == 16);
}

}  // namespace

void mfma_collective(void* slots, bool wide, bool bf16) {
  auto* s = static_cast<char*>(slots);
  if (wide) {
    bf16 ? multiply<32, 4, true>(s) : multiply<32, 8, false>(s);
  } else {
    bf16 ? multiply<16, 4, true>(s) : multiply<16, 8, false>(s);
  }
}

}  // namespace faultline::kernels::emulated

// The two e4m3 formats of 8-bit floats, on the host, exact and slow; device code has its own encoders (tile/*.h).
//
//   FNUZ (MI300X, gfx942): bias 8, largest 240, one NaN 0x80, no -0, no infinity.
//   FN   (H100, sm_90; OCP; DeepSeek's published weights): bias 7, largest 448, NaN 0x7f and 0xff, has -0.
//
// Equal bits mean: FN value = 2 x FNUZ value, but for 0x7f, 0x80 and 0xff. Sources: OCP 8-bit Floating Point
// Specification (OFP8) v1.0, section 5; AMD Instinct MI300 ISA reference, "FP8/BF8 formats".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace faultline::kernels {

enum class Fp8Format : std::uint8_t { fnuz, fn };

inline constexpr float kFp8FnuzMax = 240.0F;
inline constexpr float kFp8FnMax = 448.0F;

/// Largest magnitude that quantisation aims at. Not FNUZ's own 240 but 448 / 2: then a row quantised for MI300X and for
/// H100 has the same bits and exactly doubled values, and both devices walk the same numbers up to summation order.
inline constexpr float kFp8FnuzTarget = 224.0F;
inline constexpr float kFp8FnTarget = 448.0F;

constexpr float fp8_max(Fp8Format f) { return f == Fp8Format::fnuz ? kFp8FnuzMax : kFp8FnMax; }
constexpr float fp8_target(Fp8Format f) { return f == Fp8Format::fnuz ? kFp8FnuzTarget : kFp8FnTarget; }

/// Value of a code. NaN codes give a quiet NaN.
float fp8_decode(std::uint8_t code, Fp8Format format);

/// Nearest code, ties to even, saturating to the largest finite value (also for infinity); NaN gives the NaN code.
std::uint8_t fp8_encode(float value, Fp8Format format);

/// What the hardware's conversion does without a clamp in front (v_cvt_pk_fp8_f32 with the default clamp mode): above
/// the largest value it gives NaN. Kernels must clamp first; the emulator uses this one so that a missing clamp shows.
std::uint8_t fp8_encode_unclamped(float value, Fp8Format format);

/// Code of the FNUZ value that is half the FN value: bits stay, -0 becomes 0, NaN becomes 0x80. The scale must be
/// doubled. Lossless: decode(fn, FN) == 2 * decode(result, FNUZ) for every code.
constexpr std::uint8_t fp8_fn_to_fnuz(std::uint8_t code) {
  if (code == 0x80) return 0;
  return (code & 0x7f) == 0x7f ? 0x80 : code;
}

/// Converts weights and doubles their scales in place.
void convert_weights_fn_to_fnuz(std::span<std::uint8_t> codes, std::span<float> scales);

/// The inverse where it exists: every FNUZ code but 0x7f and 0xff (240 would be 480, above FN's largest). Returns false
/// for those and leaves `code` alone.
bool fp8_fnuz_to_fn(std::uint8_t& code);

inline float bf16_to_float(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value = 0;
  __builtin_memcpy(&value, &wide, sizeof value);
  return value;
}

/// Ties to even; NaN stays NaN.
inline std::uint16_t float_to_bf16(float value) {
  std::uint32_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

}  // namespace faultline::kernels

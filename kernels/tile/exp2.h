// 2^x by fused multiply-adds alone: the same bits on CPU, emulator and gfx942. sm_90, whose matrix products round in a
// way of their own, takes its instruction.
#pragma once

namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE {

/// 2^x for x in [-126, 126], clamped outside; NaN for NaN. Relative error below 1e-7: a degree-6 polynomial on
/// [-1/2, 1/2], fitted with 2^0 exact. Written so that compilers vectorise it.
FAULTLINE_DEV float exact_exp2(float x) {
#if defined(FAULTLINE_TILE_SM90)
  return hw_exp2(x);
#else
  const float clamped = x < -126.0F ? -126.0F : x > 126.0F ? 126.0F : x;
  const float shifted = clamped + 12582912.0F;  // 1.5 * 2^23: the integer part is now in the low bits
  const float f = clamped - (shifted - 12582912.0F);
  float p = 1.535336188319500e-4F;
  p = fused(p, f, 1.339887440266574e-3F);
  p = fused(p, f, 9.618437357674640e-3F);
  p = fused(p, f, 5.550332471162809e-2F);
  p = fused(p, f, 2.402264791363012e-1F);
  p = fused(p, f, 6.931472028550421e-1F);
  p = fused(p, f, 1.0F);
  // 1.5 * 2^23 has 22 zero low bits to spare
  const std::uint32_t scale = (bits_as<std::uint32_t>(shifted) + 127U) << 23;
  return x != x ? x : p * bits_as<float>(scale);
#endif
}

}  // namespace faultline::kernels::FAULTLINE_TILE_NAMESPACE

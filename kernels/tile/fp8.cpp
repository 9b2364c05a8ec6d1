#include "kernels/tile/fp8.h"

#include <cmath>
#include <limits>

namespace faultline::kernels {
namespace {

constexpr int bias(Fp8Format f) { return f == Fp8Format::fnuz ? 8 : 7; }
constexpr std::uint8_t nan_code(Fp8Format f, bool negative) {
  if (f == Fp8Format::fnuz) return 0x80;
  return negative ? 0xff : 0x7f;
}

// Rounds |value| to the format's grid and returns the magnitude bits, which may exceed the largest finite code.
int magnitude_bits(float magnitude, Fp8Format format) {
  const int lowest = 1 - bias(format);  // exponent of the smallest normal number
  int exponent = magnitude > 0 ? std::ilogb(magnitude) : lowest;
  if (exponent < lowest) exponent = lowest;
  const float units = std::nearbyint(std::ldexp(magnitude, 3 - exponent));  // 0 … 16, in units of the last place
  return (exponent - lowest) * 8 + static_cast<int>(units);  // a carry to 16 moves into the exponent by itself
}

}  // namespace

float fp8_decode(std::uint8_t code, Fp8Format format) {
  if (format == Fp8Format::fnuz ? code == 0x80 : (code & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  const int exponent = (code >> 3) & 15;
  const int mantissa = code & 7;
  const float sign = (code & 0x80) != 0 ? -1.0F : 1.0F;
  const int power = (exponent == 0 ? 1 : exponent) - bias(format) - 3;
  return sign * std::ldexp(static_cast<float>(exponent == 0 ? mantissa : mantissa + 8), power);
}

std::uint8_t fp8_encode(float value, Fp8Format format) {
  if (std::isnan(value)) return nan_code(format, std::signbit(value));
  const float largest = fp8_max(format);
  return fp8_encode_unclamped(std::fmin(std::fmax(value, -largest), largest), format);
}

std::uint8_t fp8_encode_unclamped(float value, Fp8Format format) {
  if (std::isnan(value) || std::isinf(value)) return nan_code(format, std::signbit(value));
  const int largest_bits = format == Fp8Format::fnuz ? 0x7f : 0x7e;
  const int bits = magnitude_bits(std::fabs(value), format);
  if (bits > largest_bits) return nan_code(format, std::signbit(value));
  if (bits == 0 && format == Fp8Format::fnuz) return 0;  // no negative zero
  return static_cast<std::uint8_t>(bits | (std::signbit(value) ? 0x80 : 0));
}

void convert_weights_fn_to_fnuz(std::span<std::uint8_t> codes, std::span<float> scales) {
  for (std::uint8_t& code : codes) code = fp8_fn_to_fnuz(code);
  for (float& scale : scales) scale *= 2.0F;
}

bool fp8_fnuz_to_fn(std::uint8_t& code) {
  if ((code & 0x7f) == 0x7f) return false;
  if (code == 0x80) code = 0x7f;
  return true;
}

}  // namespace faultline::kernels

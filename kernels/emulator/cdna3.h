// How an MI300X's matrix cores add, as others found it out from outside: P. Xie et al., "MMA-Sim: Bit-Accurate
// Reference Model of Tensor Cores and Matrix Cores", arXiv 2511.10909, and its published model. Not checked on hardware
// here.
#pragma once

namespace faultline::kernels::emulator {

/// The exponent by which a matrix core aligns a value: floor(log2 |v|), not below `least` (the format's smallest normal
/// exponent); kNoExponent for zero.
inline constexpr int kNoExponent = -1000;
int alignment_exponent(float v, int least);

/// c + the sum of n products (up to 16, FP8; up to 8, bf16), rounded to float once. exponents[i]: the sum of the
/// alignment exponents of the i-th product's operands, kNoExponent where one is zero. Products are cut off towards zero
/// 24 bits below the largest of them (FP8: those of even and of odd place apart; their sums, and c, are then rounded
/// down), the sum of products is kept to 31 bits and c to 24 bits below the larger of both. NaN and infinity go the way
/// of ordinary additions.
float cdna3_add(const float* products, const int* exponents, int n, float c, bool fp8);

}  // namespace faultline::kernels::emulator

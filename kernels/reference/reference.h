// Plain references for the kernels: double precision, obvious loops, no tiles, nothing shared with the kernel texts.
// Values that the kernel takes as FP8 or bf16 are given here as the doubles they stand for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tile/fp8.h"

namespace faultline::kernels::reference {

using Matrix = std::vector<double>;  // row-major

/// a: m x k, w: n x k; result m x n.
Matrix product(const Matrix& a, const Matrix& w, int m, int n, int k);

Matrix rms_norm(const Matrix& x, const std::vector<float>& weight, int m, int h, double eps);

/// One query over its visible tokens. q: dq; k: n x dq; v: n x dv. n = 0 gives zeros.
std::vector<double> attend(std::span<const double> q, const Matrix& k, const Matrix& v, int n, int dq, int dv,
                           double softmax_scale);

struct Routed {
  std::vector<int> ids;
  std::vector<double> weights;
};
/// One token; rules in ops/moe_args.h, RouterArgs. In float where the kernel compares, so that near ties do not differ
/// by rounding.
Routed route(std::span<const float> logits, std::span<const float> bias, int groups, int top_groups, int top_k,
             double route_scale);

/// Rotates pairs (2i, 2i+1) (interleaved) or (i, i + n/2) of x at a position; angle_i = position * base^(-2i/n).
void rotate(std::span<double> x, int position, double base, bool interleaved);
/// The table that kernels read: [positions][n/2][2].
std::vector<float> angle_table(int positions, int n, double base);

/// Rules in ops/rows_args.h, SampleArgs, by sorting.
int sample(std::span<const float> logits, float temperature, int top_k, float top_p, std::uint64_t seed,
           std::uint64_t position);

double silu(double x);

}  // namespace faultline::kernels::reference

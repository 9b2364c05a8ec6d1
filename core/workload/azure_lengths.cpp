// Joint lengths of the two Azure LLM inference traces of 2023 (Patel et al., "Splitwise", ISCA 2024; data CC-BY-4.0,
// github.com/Azure/AzurePublicDataset), as mixtures of lognormal pairs fitted by expectation-maximisation to
// (ln ContextTokens, ln GeneratedTokens). The factors then bring the means of the rounded and clamped draws, summed
// from the normal distribution function, to the value stated. Quality is the largest distance of the marginal
// distribution functions (Kolmogorov-Smirnov) between 200,000 draws and the rows fitted;
// tests/unit/core/workload/lengths_test.cpp repeats it where the trace is present.
#include <array>

#include "core/workload/lengths.h"

namespace faultline::workload {
namespace {

// First 2,700 s of the conversation trace, 15,877 rows. Before the factors: distance 0.036 (prompt), 0.025 (output);
// mean 1186 / 201 (rows 1183 / 201); p50 1016 / 116 (1015 / 116), p90 3925 / 420 (3723 / 421), p99 4235 / 609
// (4135 / 598); correlation -0.14 (-0.13). The factors set the means of the whole trace, 1155 / 211.
constexpr std::array<LognormalPair, 8> kConversation{{
    {0.26934, 5.98760, 0.04161, 4.53010, 0.25550, 0.43031},
    {0.25296, 6.97746, 0.06872, 6.00190, 0.04572, 0.00068},
    {0.15913, 7.38810, 0.54063, 4.40126, 0.39647, 0.03694},
    {0.09206, 8.31601, 0.02000, 4.03536, 0.50103, 0.01707},
    {0.08848, 5.29258, 0.09240, 4.93088, 0.40455, -0.30729},
    {0.05572, 6.98507, 0.07057, 6.24410, 0.18018, 0.10658},
    {0.05020, 4.71331, 1.24842, 3.96936, 1.09195, -0.49347},
    {0.03211, 7.18456, 0.02000, 5.17455, 0.20154, -0.01090},
}};

// First 2,400 s of the code trace, 7,491 rows. Before the factors: distance 0.033 (prompt), 0.014 (output);
// mean 1981 / 27.1 (rows 2040 / 27.6); p50 1428 / 13
// (rows 1465 / 13), p90 4725 / 56 (5177 / 55), p99 7437 / 233 (7436 / 249). The factors set the means of these rows.
constexpr std::array<LognormalPair, 6> kCode{{
    {0.25451, 7.69413, 0.73117, 2.66827, 0.30575, -0.20861},
    {0.22641, 7.45046, 0.75810, 2.16493, 0.17405, -0.02606},
    {0.18594, 7.64143, 0.75647, 3.60971, 0.64213, 0.03984},
    {0.15546, 5.24776, 1.01154, 2.53885, 0.37039, 0.17173},
    {0.09893, 5.63526, 1.64336, 4.07179, 1.06282, 0.54720},
    {0.07875, 7.08018, 1.28293, 1.79176, 0.02000, -0.00000},
}};

}  // namespace

const LengthMixture& azure_conversation_lengths() {
  static constexpr LengthMixture mixture{kConversation, 0.97381922, 1.04925243, 2, 14'050, 7, 1'000};
  return mixture;
}

const LengthMixture& azure_code_lengths() {
  static constexpr LengthMixture mixture{kCode, 1.03470842, 1.02015618, 3, 7'437, 6, 1'899};
  return mixture;
}

}  // namespace faultline::workload

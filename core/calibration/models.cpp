#include "core/calibration/models.h"

#include <algorithm>
#include <cmath>

#include "core/base/assert.h"
#include "core/base/math.h"
#include "core/calibration/spread.h"

namespace faultline::calibration {
namespace {

// (a^p + b^p)^(1/p): the sum for p = 1, the maximum for large p. How far two limits overlap in time.
double overlap(double a, double b, double p) {
  const double high = std::max(a, b), low = std::min(a, b);
  if (low <= 0 || high <= 0) return high;
  const double ratio = low / high;
  return high * stable::pow(1 + stable::pow(ratio, p), 1 / p);
}

double ceil_div(double a, double b) { return std::ceil(a / b); }

struct Tile {
  double m, n;
};
// Tile sizes of the kernels the tuner chose among (kernelName column of AITER's tables).
constexpr std::array<Tile, 9> kTiles{
    {{16, 64}, {16, 128}, {32, 64}, {32, 128}, {64, 64}, {64, 128}, {128, 64}, {128, 128}, {64, 256}}};
constexpr double kStep = 128;  // K elements a block reads at a time

}  // namespace

double weight_bytes(Precision precision) {
  switch (precision) {
    case Precision::bf16: return 2;
    case Precision::fp4: return 4.25 / 8;
    default: return 1;
  }
}

Gpu gpu_of(std::string_view hardware) {
  if (hardware == "MI325X") return {304, 6.0, 1};
  if (hardware == "MI300X/MI325X") return {304, 5.65, 1};
  if (hardware == "MI308X") return {80, 5.3, 1};
  if (hardware == "MI355X") return {256, 8.0, 4614.0 / 256 / (2614.9 / 304)};  // dense FP8 peak a CU
  if (hardware == "H800" || hardware == "H100") return {132, 3.35, 1979.0 / 132 / (2614.9 / 304)};
  return {304, 5.3, 1};
}

double gemm_us(std::span<const double> p, const GemmShape& s) {
  enum { kFixed, kBlock, kMatrix, kLoad, kBandwidth, kOverlap, kSplit, kSmooth, kMi325x, kMixed, kBf16, kRow, kCold };
  const double bytes = s.precision == Precision::bf16 ? 2 : 1;
  double rate = s.variant == 1 ? p[kMi325x] : s.variant == 2 ? p[kMixed] : 1;
  if (s.precision == Precision::bf16) rate *= p[kBf16];
  if (s.precision == Precision::fp8_row) rate *= p[kRow];
  rate /= s.gpu.relative_rate;
  const double smooth = 1 / (1 + p[kSmooth]);
  double best = 1e300;
  for (const Tile& tile : kTiles) {
    const double work = (p[kMatrix] * tile.m * tile.n / 16384 + p[kLoad] * bytes * (tile.m + tile.n) / 256) * rate;
    const double blocks = ceil_div(s.m, tile.m) * ceil_div(s.n, tile.n) * s.batch;
    double split_cost = 0;
    for (double split = 1; split <= (s.split_k ? 8 : 1); split *= 2, split_cost += p[kSplit]) {
      const double steps = ceil_div(s.k, kStep * split);
      const double waves = blocks * split / s.gpu.compute_units;
      // Whole waves where the last one is short, partly hidden because blocks of one wave do not end together.
      const double rounds = waves <= 1 ? 1 : (1 - smooth) * std::ceil(waves) + smooth * waves;
      best = std::min(best, rounds * (p[kBlock] + steps * work) + split_cost);
    }
  }
  const double megabytes = s.batch * (bytes * (s.n * s.k + s.m * s.k) + 2 * s.m * s.n) / 1e6;
  const double memory = megabytes / (p[s.cold ? kCold : kBandwidth] * s.gpu.hbm_tbps);
  return p[kFixed] + overlap(best, memory, 1 + p[kOverlap]);
}

double moe_us(std::span<const double> p, const MoeShape& s) {
  enum {
    kFixed,
    kLatency,
    kMatrix,
    kBf16,
    kLoad,
    kBandwidth,
    kOverlap,
    kActivation,
    kOneStage,
    kOneStageLatency,
    kRow,
    kFp4
  };
  if (s.pairs <= 0) return 0;
  const double bytes = weight_bytes(s.precision);
  const bool wide = s.precision == Precision::bf16 || s.precision == Precision::fp4;  // fp4 weights are widened to bf16
  const double memory = s.touched * 3 * s.hidden * s.inter * bytes / 1e6 / (p[kBandwidth] * s.gpu.hbm_tbps);
  // In and out once a pair: one byte in (or two), two bytes out.
  const double activation = s.pairs * s.hidden * 3 / 1e6 / (p[kActivation] * s.gpu.hbm_tbps);
  double rate = (wide ? p[kBf16] : p[kMatrix]) * (s.one_stage ? p[kOneStage] : 1) / s.gpu.relative_rate;
  if (s.precision == Precision::fp8_row) rate *= p[kRow];
  double compute = 1e300;
  for (const double m : {16.0, 32.0, 64.0, 128.0}) {
    constexpr double n = 128;
    // A touched expert has at least one block and, on average, half a block of padding.
    const double blocks = std::max(s.touched, s.pairs / m + 0.5 * s.touched);
    const double step = rate * m * n / 16384 + p[kLoad] * std::max(bytes, 1.0) * (m + n) / 256;
    const double up = std::max(1.0, blocks * 2 * s.inter / n / s.gpu.compute_units) * ceil_div(s.hidden, kStep);
    const double down = std::max(1.0, blocks * s.hidden / n / s.gpu.compute_units) * ceil_div(s.inter, kStep);
    compute = std::min(compute, (up + down) * step);
  }
  const double chain = p[kLatency] * (s.hidden + s.inter) / kStep * (s.one_stage ? p[kOneStageLatency] : 1);
  const double exponent = 1 + p[kOverlap];
  double sum = 0;
  const double high = std::max({memory, compute, activation, chain});
  for (const double part : {memory, compute, activation, chain}) sum += stable::pow(part / high, exponent);
  return (p[kFixed] + high * stable::pow(sum, 1 / exponent)) * (s.precision == Precision::fp4 ? p[kFp4] : 1);
}

double exchange_intra_us(std::span<const double> p, const ExchangeShape& s) {
  enum { kDispatchFixed, kCombineFixed, kDispatchCopy, kCombineCopy, kLink, kLowLatency };
  // Each token goes once to every distinct rank that holds one of its experts; one xGMI link a peer, used in parallel.
  const double copies = s.tokens * distinct_destinations(s.ranks, s.topk);
  const double link_bytes = copies / s.ranks * s.token_bytes;
  const double fixed = p[s.combine ? kCombineFixed : kDispatchFixed] * (s.low_latency ? p[kLowLatency] : 1);
  return fixed + copies * p[s.combine ? kCombineCopy : kDispatchCopy] / 1e3 + link_bytes / (p[kLink] * 1e3);
}

double exchange_inter_us(std::span<const double> p, const ExchangeShape& s) {
  enum {
    kDispatchFixed,
    kCombineFixed,
    kDispatchNic,
    kCombineNic,
    kLlDispatchFixed,
    kLlCombineFixed,
    kLlDispatchNic,
    kLlCombineNic,
    kNode
  };
  const double nodes = std::max(1.0, s.ranks / s.ranks_per_node);
  // De-duplicated by node; the copy to the own node does not use the NIC.
  const double nic_bytes = s.tokens * distinct_destinations(nodes, s.topk) * (nodes - 1) / nodes * s.token_bytes;
  const double fixed = p[s.low_latency ? (s.combine ? kLlCombineFixed : kLlDispatchFixed)
                                       : (s.combine ? kCombineFixed : kDispatchFixed)];
  const double nic =
      p[s.low_latency ? (s.combine ? kLlCombineNic : kLlDispatchNic) : (s.combine ? kCombineNic : kDispatchNic)];
  return fixed + p[kNode] * std::max(0.0, nodes - 2) + nic_bytes / (nic * 1e3);
}

double transfer_us(std::span<const double> p, const TransferShape& s) {
  enum { kFixed, kBatch, kBatchHalf, kMessage, kRate, kOverlap };
  const double extra = s.batch - 1;
  const double each = overlap(s.bytes / (p[kRate] * 1e3), p[kMessage], 1 + p[kOverlap]);
  return p[kFixed] + p[kBatch] * extra / (extra + p[kBatchHalf]) + s.batch * each;
}

double mla_decode_us(std::span<const double> p, const MlaDecodeShape& s) {
  enum { kWave, kSequence, kMatrix, kBandwidth, kHk };
  // Two blocks of 64 heads a sequence; a wave takes a fixed time plus a little for each sequence in it.
  const double blocks = s.batch * std::max(1.0, s.heads / 64);
  const double waves = std::max(1.0, std::ceil(blocks / s.gpu.compute_units));
  const double fixed = waves * p[kWave] + s.batch * p[kSequence];
  const double tflop = 2 * s.heads * (576 + 512) * s.batch * s.context / 1e12;
  const double compute = tflop / (p[kMatrix] * s.gpu.relative_rate * s.gpu.compute_units / 304) * 1e6;
  const double memory = s.batch * s.context * 576 / 1e6 / (p[kBandwidth] * s.gpu.hbm_tbps);
  return (fixed + std::max(compute, memory)) * (s.hk ? p[kHk] : 1);
}

double stream_us(std::span<const double> p, const StreamShape& s) {
  enum { kKernel, kBandwidth };
  return s.kernels * p[kKernel] + s.bytes / 1e6 / p[kBandwidth];
}

double collective_us(std::span<const double> p, const CollectiveShape& s) {
  enum { kFixed, kLink };
  if (s.ranks <= 1) return 0;
  // Reduce-scatter and all-gather over a full mesh: each pair of ranks moves 2/ranks of the buffer over its own link.
  return p[kFixed] + 2 * s.bytes / s.ranks / (p[kLink] * 1e3);
}

double prefill_us(std::span<const double> p, const PrefillShape& s) { return p[0] + s.flop / 1e6 / p[1]; }

double weight_load_us(std::span<const double> p, const WeightLoadShape& s) {
  enum { kOpen, kPeer, kHost, kDisk };
  const double rate = p[s.from == WeightLoadShape::From::peer   ? kPeer
                        : s.from == WeightLoadShape::From::host ? kHost
                                                                : kDisk];
  return p[kOpen] * 1e3 + s.bytes / (rate * 1e3);
}

}  // namespace faultline::calibration

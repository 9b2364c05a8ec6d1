// Time of one operation from its shape: the mechanisms. Each model is a function of named parameters (all positive; the
// fit works on their logarithms) and a shape; equations and sources are in docs/calibration.md, one section a model.
// Times in microseconds (double): callers round once, to nanoseconds.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace faultline::calibration {

enum class Precision { fp8_block, fp8_row, bf16, fp4 };
/// Bytes of one weight in that precision (scales of block formats included for fp4: 4.25 bits).
double weight_bytes(Precision precision);

/// What a model needs to know of a GPU. Peak numbers are the vendor's; the fitted parameters hold what is reached.
struct Gpu {
  double compute_units = 304;
  double hbm_tbps = 5.3;     // TB/s
  double relative_rate = 1;  // matrix rate of one CU relative to MI300X (clock and generation)
};
/// Data sheet values for a hardware tag; MI300X for an unknown one ("gfx942-304" is MI300X or MI325X).
/// Sources: AMD data sheets of MI300X (5.3 TB/s), MI325X (6.0), MI355X (8.0); MI308X 80 CUs; NVIDIA H800 SXM (3.35).
Gpu gpu_of(std::string_view hardware);

struct GemmShape {
  double m = 1, n = 1, k = 1, batch = 1;
  Precision precision = Precision::fp8_block;
  bool split_k = true;  // software of June 2026 or later can split K
  bool cold = false;    // weights come from HBM, as in a sequence of layers; else they may sit in the Infinity Cache
  int variant = 0;      // 0 MI300X (or not named), 1 MI325X, 2 mixed fleet: a speed ratio each
  Gpu gpu{};
};

struct MoeShape {
  double pairs = 1;    // expert-token pairs computed on this GPU
  double touched = 1;  // experts with at least one pair: their weights are read
  double hidden = 1, inter = 1;
  Precision precision = Precision::fp8_block;
  bool one_stage = false;
  Gpu gpu{};
};

struct ExchangeShape {
  bool combine = false;  // else dispatch
  bool low_latency = false;
  double ranks = 8, ranks_per_node = 8;
  double tokens = 1, topk = 8;
  double token_bytes = 7168;  // payload of one copy
};

struct TransferShape {
  double bytes = 1, batch = 1;
};

struct MlaDecodeShape {
  double batch = 1, context = 1, heads = 128;
  bool hk = false;
  Gpu gpu{};
};

/// Memory-bound work: norms, rope, quantise, KV writes, decode attention over a KV cache of `bytes`.
struct StreamShape {
  double bytes = 0, kernels = 1;
};

struct CollectiveShape {
  double ranks = 8, bytes = 0;
};

/// A rank's weights, read from where they are kept into its memory.
struct WeightLoadShape {
  double bytes = 0;
  enum class From { peer, host, disk } from = From::disk;
};

/// Flop-bound attention over a prompt (causal), of one layer: `flop` useful operations.
struct PrefillShape {
  double flop = 0;
};

using Shape = std::variant<GemmShape, MoeShape, ExchangeShape, TransferShape, MlaDecodeShape, StreamShape,
                           CollectiveShape, PrefillShape, WeightLoadShape>;

struct ParameterInfo {
  std::string name, unit;
  double prior = 1;        // start and centre of the prior
  double prior_sigma = 1;  // of the logarithm: how far the data may pull it; small where the data say nothing
  std::string meaning;     // and the source of the prior
};

struct Model {
  std::string name;
  std::string operation;  // of the step plan
  std::vector<ParameterInfo> parameters;
  double (*us)(std::span<const double> parameters, const Shape& shape);
};

/// Every model, in a fixed order. Names: gemm, moe, exchange_intra, exchange_inter, transfer_<nic>_<operation>,
/// mla_decode, kv_attention, stream, collective, prefill_attention, weight_load.
const std::vector<Model>& models();
/// Null when there is no such model.
const Model* find_model(std::string_view name);

double gemm_us(std::span<const double> p, const GemmShape& shape);
double moe_us(std::span<const double> p, const MoeShape& shape);
double exchange_intra_us(std::span<const double> p, const ExchangeShape& shape);
double exchange_inter_us(std::span<const double> p, const ExchangeShape& shape);
double transfer_us(std::span<const double> p, const TransferShape& shape);
double mla_decode_us(std::span<const double> p, const MlaDecodeShape& shape);
double stream_us(std::span<const double> p, const StreamShape& shape);
double collective_us(std::span<const double> p, const CollectiveShape& shape);
double prefill_us(std::span<const double> p, const PrefillShape& shape);
double weight_load_us(std::span<const double> p, const WeightLoadShape& shape);

}  // namespace faultline::calibration

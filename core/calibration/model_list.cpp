// The models and their parameters, with the priors the fit starts from. A prior sigma of 0.3 and less means that the
// tables at hand do not determine the value well; its interval then comes from the prior.
#include "core/base/assert.h"
#include "core/calibration/models.h"

namespace faultline::calibration {
namespace {

template <class S, double (*F)(std::span<const double>, const S&)>
double call(std::span<const double> p, const Shape& shape) {
  FAULTLINE_ASSERT(std::holds_alternative<S>(shape), "shape {}", shape.index());
  return F(p, std::get<S>(shape));
}

std::vector<ParameterInfo> transfer_parameters(double fixed, double message, double rate) {
  return {{"fixed", "us", fixed, 1, "post, doorbell, wire, completion of the first message"},
          {"batch", "us", 8, 2, "what a long batch adds once: completions polled in chunks"},
          {"batch_half", "messages", 8, 1, "batch length at which half of it is paid"},
          {"message", "us", message, 1, "each further message, however small"},
          {"rate", "GB/s", rate, 0.5, "of one 400 Gb/s port; 50 GB/s on the wire"},
          {"overlap", "", 1.5, 1, "1 + this: exponent that joins message cost and wire time"}};
}

std::vector<Model> make() {
  std::vector<Model> list;
  list.push_back({"gemm",
                  "gemm",
                  {{"fixed", "us", 1.2, 1, "start and end of a warm kernel"},
                   {"block", "us", 1.8, 1, "prologue and epilogue of a block"},
                   {"matrix", "us", 0.72, 0.5, "128x128 tile, 128 of K, one CU: 0.49 us at the FP8 peak"},
                   {"load", "us", 0.7, 0.5, "reading both operands of such a step into a CU"},
                   {"bandwidth", "of HBM", 0.95, 0.5, "warm kernels read small weights from the Infinity Cache"},
                   {"overlap", "", 0.2, 2, "1 + this: exponent that joins compute and memory"},
                   {"split", "us", 1.2, 1, "each doubling of the K split"},
                   {"smooth", "", 10, 1, "larger: whole waves count more"},
                   {"mi325x", "ratio", 0.83, 0.5, "time against MI300X: newer kernels, 1,000 W"},
                   {"mixed", "ratio", 0.86, 0.5, "rows measured on either"},
                   {"bf16", "ratio", 2, 0.3, "BF16 matrix time against FP8; the peak is half"},
                   {"row", "ratio", 0.75, 0.3, "row-wise scales against block scales"},
                   {"cold_bandwidth", "of HBM", 0.79, 0.1,
                    "weights of a layer sequence: the output head of the vLLM decode profile, 1.16 GB in 277 us"}},
                  call<GemmShape, gemm_us>});
  list.push_back({"moe",
                  "moe",
                  {{"fixed", "us", 10, 1, "sorting and two launches"},
                   {"latency", "us", 0.5, 1, "one step of 128 along the longest chain"},
                   {"matrix", "us", 0.6, 1, "as in gemm"},
                   {"bf16", "us", 1.5, 1, "as matrix, BF16"},
                   {"load", "us", 0.4, 1, "as in gemm"},
                   {"bandwidth", "of HBM", 0.95, 0.5, "weights of the experts touched"},
                   {"overlap", "", 0.3, 1, "1 + this: exponent that joins memory, compute, activations, chain"},
                   {"activation", "of HBM", 0.5, 1, "activations in, results out"},
                   {"one_stage", "ratio", 1.5, 0.5, "matrix time of the single fused kernel"},
                   {"one_stage_latency", "ratio", 0.7, 0.7, "its chain"},
                   {"row", "ratio", 1, 0.3, "row-wise scales against block scales"},
                   {"fp4", "ratio", 1.65, 0.3,
                    "Triton kernels on MXFP4 weights, widened to BF16 in the kernel; from the expert kernels of the "
                    "vLLM decode profile alone"}},
                  call<MoeShape, moe_us>});
  list.push_back({"exchange_intra",
                  "dispatch",
                  {{"dispatch_fixed", "us", 24, 1, "launch, flags and barrier among the node's ranks"},
                   {"combine_fixed", "us", 20, 1, "the same for combine"},
                   {"dispatch_copy", "ns", 1, 2, "index work for each token copy"},
                   {"combine_copy", "ns", 1, 2, "weighted sum of each token copy"},
                   {"link", "GB/s", 45, 0.5, "one xGMI link, one direction; 64 on the wire"},
                   {"low_latency", "ratio", 1, 0.5, "fixed part of the IntraNodeLL kernels"}},
                  call<ExchangeShape, exchange_intra_us>});
  list.push_back({"exchange_inter",
                  "dispatch",
                  {{"dispatch_fixed", "us", 85, 0.5, "high-throughput kernels, two nodes"},
                   {"combine_fixed", "us", 90, 0.5, ""},
                   {"dispatch_nic", "GB/s", 30, 0.5, "physical NIC rate reached, one 400 Gb/s port a GPU"},
                   {"combine_nic", "GB/s", 35, 0.5, ""},
                   {"ll_dispatch_fixed", "us", 55, 0.5, "low-latency kernels, two nodes"},
                   {"ll_combine_fixed", "us", 80, 0.5, ""},
                   {"ll_dispatch_nic", "GB/s", 43, 0.5, ""},
                   {"ll_combine_nic", "GB/s", 40, 0.5, ""},
                   {"node", "us", 25, 0.7, "each node beyond two: more peers to signal, wait for the slowest"}},
                  call<ExchangeShape, exchange_inter_us>});
  list.push_back(
      {"transfer_CX7_write", "kv_push", transfer_parameters(5.9, 0.15, 49), call<TransferShape, transfer_us>});
  list.push_back({"transfer_CX7_read", "kv_push", transfer_parameters(6.5, 0.3, 45), call<TransferShape, transfer_us>});
  list.push_back(
      {"transfer_Thor2_write", "kv_push", transfer_parameters(11, 0.15, 48), call<TransferShape, transfer_us>});
  list.push_back(
      {"transfer_Thor2_read", "kv_push", transfer_parameters(12, 0.4, 48), call<TransferShape, transfer_us>});
  list.push_back({"mla_decode",
                  "attention",
                  {{"wave", "us", 15, 0.5, "one wave of blocks over the CUs"},
                   {"sequence", "us", 0.04, 1, "each sequence"},
                   {"matrix", "TFLOP/s", 367, 0.3, "peak of 25 configurations, ROCm/aiter commit 04427a5d8f"},
                   {"bandwidth", "of HBM", 0.6, 0.3, "assumed: no measured point is bound by it"},
                   {"hk", "ratio", 0.85, 0.5, "the HipKittens kernel against the assembly one"}},
                  call<MlaDecodeShape, mla_decode_us>});
  // The next two come from decode profiles (calibrate fit reads them as kernels with known shapes).
  list.push_back({"kv_attention",
                  "attention",
                  {{"kernel", "us", 10, 0.5, "paged attention and its reduction"},
                   {"bandwidth", "TB/s", 2.8, 0.3, "of the KV cache, BF16, grouped queries"}},
                  call<StreamShape, stream_us>});
  list.push_back({"stream",
                  "norm",
                  {{"kernel", "us", 4.6, 0.3, "a small kernel inside a captured graph"},
                   {"bandwidth", "TB/s", 3.5, 0.3, "memory-bound elementwise work"}},
                  call<StreamShape, stream_us>});
  list.push_back(
      {"collective",
       "collective",
       {{"fixed", "us", 18, 0.4, "assumed: small all-reduce of eight GPUs, custom kernel; not in the tables"},
        {"link", "GB/s", 40, 0.3, "as exchange_intra's link"}},
       call<CollectiveShape, collective_us>});
  list.push_back({"prefill_attention",
                  "attention",
                  {{"kernel", "us", 10, 0.5, "assumed"},
                   {"matrix", "TFLOP/s", 400, 0.4, "assumed: a third of the BF16 peak; not in the tables"}},
                  call<PrefillShape, prefill_us>});
  list.push_back(
      {"weight_load",
       "weight_load",
       {{"open", "ms", 200, 0.7, "assumed: files opened, buffers mapped and registered"},
        {"peer", "GB/s", 40, 0.4, "from another GPU over its NIC; as transfer_CX7_read, not in the tables"},
        {"host", "GB/s", 25, 0.5, "from pinned host memory; assumed: half of PCIe 5.0 x16, eight GPUs at once"},
        {"disk", "GB/s", 1, 0.7, "assumed: a GPU's share of a node's local disks, eight GPUs at once"}},
       call<WeightLoadShape, weight_load_us>});
  return list;
}

}  // namespace

const std::vector<Model>& models() {
  static const std::vector<Model> list = make();
  return list;
}

const Model* find_model(std::string_view name) {
  for (const Model& model : models())
    if (model.name == name) return &model;
  return nullptr;
}

}  // namespace faultline::calibration

// What a GPU and its links can do: published peaks, and the share of them that kernels reach, by class of operation.
// Read from topologies/devices/*.yaml. The shares are measured where data exist and marked as assumed where they do
// not: docs/model.md section 4 lists every one with its derivation. Fitted cost models replace them (cost.h).
#pragma once

#include <string>
#include <string_view>

#include "core/base/quantity.h"
#include "core/config/fields.h"
#include "core/model/shape.h"

namespace faultline::model {

/// Time of one kernel = floor + max(c, m) + serial * min(c, m), with c = flops / (peak * compute) and
/// m = bytes / (memory bandwidth * memory). serial = 0 is the plain roofline; 1 means no overlap of loads and
/// arithmetic.
struct Efficiency {
  double compute = 1;
  double memory = 1;
  double serial = 0;
  Duration floor{};         // launch and drain of the kernel on the device
  Duration per_sequence{};  // attention only: added for each sequence of the batch
};

/// Dispatch or combine over the expert-parallel group, per GPU:
///   latency + max(xgmi bytes / (xgmi bandwidth * xgmi), rdma bytes / (NIC bandwidth * rdma)).
struct ExchangeEfficiency {
  Duration latency_node{};     // group inside one node
  Duration latency_network{};  // group over several nodes
  double xgmi = 1;
  double rdma = 1;
};

struct AllReduceEfficiency {
  Duration latency{};
  double xgmi = 1;  // share of the GPU's xGMI bandwidth that a ring or direct all-reduce moves
};

/// Time of the host. A captured graph costs once a step; eager launching costs per layer and is hidden behind the
/// device where the device is slower.
struct HostOverhead {
  Duration step{};         // scheduler, sampling result, metadata: every step
  Duration graph{};        // launch of a captured graph
  Duration eager_layer{};  // launching one layer's kernels one by one
};

struct DeviceSpec {
  std::string name;
  std::string source;
  std::int64_t compute_units = 0;
  FlopsPerSecond fp8_peak;   // dense
  FlopsPerSecond bf16_peak;  // dense
  BytesPerSecond memory_bandwidth;
  Bytes memory;
  std::int64_t gpus_per_node = 8;
  BytesPerSecond xgmi_bandwidth;  // scale-up links (xGMI, NVLink) of one GPU, all together, one direction
  BytesPerSecond nic_bandwidth;   // scale-out bandwidth of one GPU, one direction
  Efficiency gemm_fp8, gemm_bf16;
  Efficiency experts_fp8, experts_bf16;  // grouped GEMM
  Efficiency prefill_attention;
  Efficiency mla_decode, gqa_decode;
  Efficiency elementwise;  // norms, rope and cache write, activation, routing, sampling
  ExchangeEfficiency dispatch, combine;
  AllReduceEfficiency all_reduce;
  HostOverhead host;
  /// Widest expert-parallel group, in nodes, for which exchange times were measured; wider is extrapolated.
  std::int64_t exchange_nodes_measured = 1;

  FlopsPerSecond peak(Precision p) const { return p == Precision::fp8 ? fp8_peak : bf16_peak; }
};

void describe(config::Fields& f, Efficiency& e);
void describe(config::Fields& f, ExchangeEfficiency& e);
void describe(config::Fields& f, AllReduceEfficiency& e);
void describe(config::Fields& f, HostOverhead& h);
void describe(config::Fields& f, DeviceSpec& d);

/// Reads a device from the text of its YAML file. Errors, with their places, go to `diagnostics`.
DeviceSpec read_device(std::string_view text, const std::string& file, config::Diagnostics& diagnostics);

}  // namespace faultline::model

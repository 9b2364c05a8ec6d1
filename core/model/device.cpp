#include "core/model/device.h"

namespace faultline::model {

using config::Fields;
using config::Range;
namespace {
constexpr Range kShare{.min = 1e-4, .max = 1};
constexpr Range kPeak{.min = 1e9, .max = 9e18};
}  // namespace

void describe(Fields& f, Efficiency& e) {
  f.required("compute", e.compute, kShare);
  f.required("memory", e.memory, kShare);
  f.field("serial", e.serial, config::kRatio);
  f.field("floor", e.floor, config::kNotNegative);
  f.field("per_sequence", e.per_sequence, config::kNotNegative);
}

void describe(Fields& f, ExchangeEfficiency& e) {
  f.required("latency_node", e.latency_node, config::kNotNegative);
  f.required("latency_network", e.latency_network, config::kNotNegative);
  f.required("xgmi", e.xgmi, kShare);
  f.required("rdma", e.rdma, kShare);
}

void describe(Fields& f, AllReduceEfficiency& e) {
  f.required("latency", e.latency, config::kNotNegative);
  f.required("xgmi", e.xgmi, kShare);
}

void describe(Fields& f, HostOverhead& h) {
  f.required("step", h.step, config::kNotNegative);
  f.required("graph", h.graph, config::kNotNegative);
  f.required("eager_layer", h.eager_layer, config::kNotNegative);
}

void describe(Fields& f, DeviceSpec& d) {
  f.required("name", d.name);
  f.required("source", d.source);
  f.required("compute_units", d.compute_units, {.min = 1, .max = 100000});
  f.required("fp8_peak", d.fp8_peak, kPeak);
  f.required("bf16_peak", d.bf16_peak, kPeak);
  f.required("memory_bandwidth", d.memory_bandwidth, kPeak);
  f.required("memory", d.memory, {.min = 1e9, .max = 1e15});
  f.field("gpus_per_node", d.gpus_per_node, {.min = 1, .max = 1024});
  f.required("xgmi_bandwidth", d.xgmi_bandwidth, kPeak);
  f.required("nic_bandwidth", d.nic_bandwidth, kPeak);
  f.object("gemm_fp8", d.gemm_fp8, true);
  f.object("gemm_bf16", d.gemm_bf16, true);
  f.object("experts_fp8", d.experts_fp8, true);
  f.object("experts_bf16", d.experts_bf16, true);
  f.object("prefill_attention", d.prefill_attention, true);
  f.object("mla_decode", d.mla_decode, true);
  f.object("gqa_decode", d.gqa_decode, true);
  f.object("elementwise", d.elementwise, true);
  f.object("dispatch", d.dispatch, true);
  f.object("combine", d.combine, true);
  f.object("all_reduce", d.all_reduce, true);
  f.object("host", d.host, true);
  f.field("exchange_nodes_measured", d.exchange_nodes_measured, {.min = 1, .max = 100000});
}

DeviceSpec read_device(std::string_view text, const std::string& file, config::Diagnostics& diagnostics) {
  DeviceSpec d;
  const config::Document document(text, file, diagnostics);
  if (document.root().IsDefined() && !document.root().IsNull()) {
    config::read(document, document.root(), "device", d, diagnostics);
  }
  return d;
}

}  // namespace faultline::model

#include "core/model/roofline.h"

#include <algorithm>

#include "core/base/assert.h"

namespace faultline::model {
namespace {

constexpr std::string_view kSource = "roofline";
constexpr double kNsPerSecond = 1e9;

double floor_ns(const Efficiency& e) { return static_cast<double>(e.floor.v); }

/// The two roof terms, ns.
struct Roof {
  double compute = 0;
  double memory = 0;
};
Roof roof(const DeviceSpec& d, const Efficiency& e, Precision p, double flops, double bytes) {
  return {flops * kNsPerSecond / (static_cast<double>(d.peak(p).v) * e.compute),
          bytes * kNsPerSecond / (static_cast<double>(d.memory_bandwidth.v) * e.memory)};
}

}  // namespace

Price RooflineCost::price(const Op& op) const {
  const bool fp8 = op.precision == Precision::fp8;
  const Efficiency* e = nullptr;
  switch (op.kind) {
    case OpKind::gemm: e = fp8 ? &device_.gemm_fp8 : &device_.gemm_bf16; break;
    case OpKind::grouped_gemm: e = fp8 ? &device_.experts_fp8 : &device_.experts_bf16; break;
    case OpKind::prefill_attention: e = &device_.prefill_attention; break;
    case OpKind::elementwise: e = &device_.elementwise; break;
    case OpKind::kv_push: return {.source = kSource};  // overlapped; the network model times it
    default: FAULTLINE_ASSERT(false, "op {} has no price of its own, kind {}", op.name, static_cast<int>(op.kind));
  }
  const Roof r = roof(device_, *e, op.precision, static_cast<double>(op.flops), static_cast<double>(op.bytes.v));
  const double ns = floor_ns(*e) + std::max(r.compute, r.memory) + e->serial * std::min(r.compute, r.memory);
  return {.time = fixed_from_ns(ns), .source = kSource};
}

ContextPrice RooflineCost::context_price(const ModelShape& s, const ParallelPlan& p, std::int64_t sequences) const {
  const Efficiency& e = s.attention.kind == AttentionKind::mla ? device_.mla_decode : device_.gqa_decode;
  // Both terms are affine in the context: what one more cached token costs, and what the sequences cost without any.
  const Op none = decode_attention_op(s, p, sequences, 0);
  const Op one = decode_attention_op(s, p, sequences, 1);
  const Roof fixed =
      roof(device_, e, p.kv_precision, static_cast<double>(none.flops), static_cast<double>(none.bytes.v));
  const Roof slope = roof(device_, e, p.kv_precision, static_cast<double>(one.flops - none.flops),
                          static_cast<double>((one.bytes - none.bytes).v));
  const double base = floor_ns(e) + static_cast<double>(e.per_sequence.v * sequences);
  const auto line = [&](double weight_compute, double weight_memory) {
    return ContextLine{fixed_from_ns(base + weight_compute * fixed.compute + weight_memory * fixed.memory),
                       fixed_from_ns(weight_compute * slope.compute + weight_memory * slope.memory)};
  };
  // max(c, m) + serial * min(c, m) = max(c + serial * m, m + serial * c) for serial <= 1.
  return {.lines = {line(1, e.serial), line(e.serial, 1)}, .source = kSource};
}

ExchangePrice RooflineCost::exchange_price(const Op& op) const {
  const double xgmi = static_cast<double>(device_.xgmi_bandwidth.v);
  const double nic = static_cast<double>(device_.nic_bandwidth.v);
  if (op.kind == OpKind::all_reduce) {
    return {.latency = fixed_from(device_.all_reduce.latency),
            .xgmi = fixed_from_ns(static_cast<double>(op.xgmi.v) * kNsPerSecond / (xgmi * device_.all_reduce.xgmi)),
            .source = kSource};
  }
  FAULTLINE_ASSERT(op.kind == OpKind::dispatch || op.kind == OpKind::combine, "op {} is no exchange", op.name);
  const ExchangeEfficiency& e = op.kind == OpKind::dispatch ? device_.dispatch : device_.combine;
  return {.latency = fixed_from(op.nodes == 1 ? e.latency_node : e.latency_network),
          .xgmi = fixed_from_ns(static_cast<double>(op.xgmi.v) * kNsPerSecond / (xgmi * e.xgmi)),
          .rdma = fixed_from_ns(static_cast<double>(op.rdma.v) * kNsPerSecond / (nic * e.rdma)),
          .extrapolated = op.nodes > device_.exchange_nodes_measured,
          .source = kSource,
          .why = op.nodes > device_.exchange_nodes_measured ? "exchange over more nodes than measured" : ""};
}

FixedTime RooflineCost::host_step(Launch launch) const {
  return fixed_from(launch == Launch::graph ? device_.host.step + device_.host.graph : device_.host.step);
}

FixedTime RooflineCost::host_launch(Launch launch, std::int64_t layers) const {
  return launch == Launch::graph ? FixedTime{} : fixed_from(device_.host.eager_layer * layers);
}

}  // namespace faultline::model

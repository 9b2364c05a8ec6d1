// The first cost model: a roofline with the device's stated efficiencies. Equations: docs/model.md section 3.
//   kernel   = floor + max(c, m) + serial * min(c, m),   c = flops / (peak * compute), m = bytes / (bandwidth * memory)
//   exchange = latency + max(xgmi bytes / (xgmi * share), rdma bytes / (nic * share))
//   decode attention: the same kernel formula written as two lines in the context
// Range: GEMM and experts as the tables they were derived from (M 1 … 32,768 and more); exchanges up to
// exchange_nodes_measured nodes, wider flagged as extrapolated. Errors: none.
#pragma once

#include "core/model/cost.h"

namespace faultline::model {

class RooflineCost final : public CostModel {
 public:
  explicit RooflineCost(DeviceSpec device) : device_(std::move(device)) {}

  Price price(const Op& op) const override;
  ContextPrice context_price(const ModelShape& s, const ParallelPlan& p, std::int64_t sequences) const override;
  ExchangePrice exchange_price(const Op& op) const override;
  FixedTime host_step(Launch launch) const override;
  FixedTime host_launch(Launch launch, std::int64_t layers) const override;

  const DeviceSpec& device() const { return device_; }

 private:
  DeviceSpec device_;
};

}  // namespace faultline::model

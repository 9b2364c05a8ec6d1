// Prices that make a server of queueing theory out of an instance: a decode step takes one given time whatever its
// batch, prefill takes none, so a request is served for (output tokens - 1) steps and max_num_seqs requests are served
// at once.
#pragma once

#include <memory>

#include "tests/sim/driver/scenario.h"

namespace faultline::test {

class FixedCost final : public model::CostModel {
 public:
  /// decode: of a whole decode step, charged as attention; device: of each other device operation, prefill's too. Both
  /// stretch with a straggler's slowdown.
  explicit FixedCost(Duration decode, Duration device = Duration{0})
      : decode_(model::fixed_from(decode)), device_(model::fixed_from(device)) {}
  model::Price price(const model::Op&) const override { return {device_, false, "fixed"}; }
  model::ContextPrice context_price(const model::ModelShape& s, const model::ParallelPlan&,
                                    std::int64_t) const override {
    return {{{{decode_.v / s.layers}, {}}}, false, "fixed"};
  }
  model::ExchangePrice exchange_price(const model::Op&) const override { return {{}, {}, {}, false, "fixed"}; }
  model::FixedTime host_step(model::Launch) const override { return {}; }
  model::FixedTime host_launch(model::Launch, std::int64_t) const override { return {}; }

 private:
  model::FixedTime decode_, device_;
};

inline Change with_cost(const experiment::ExperimentSpec& spec, Duration decode, Duration device = Duration{0}) {
  return [&spec, decode, device](experiment::Deployment& d) {
    for (auto* role : {d.prefill.get(), d.decode.get(), d.both.get()}) {
      if (role == nullptr) continue;
      role->pricer = std::make_unique<model::StepPricer>(spec.model, spec.device, role->plan,
                                                         std::make_shared<FixedCost>(decode, device));
    }
  };
}

}  // namespace faultline::test

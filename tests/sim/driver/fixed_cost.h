// Prices that make a server of queueing theory out of an instance: a decode step takes one given time whatever its batch,
// prefill takes none, so a request is served for (output tokens - 1) steps and max_num_seqs requests are served at once.
#pragma once

#include <memory>

#include "tests/sim/driver/scenario.h"

namespace faultline::test {

class FixedCost final : public model::CostModel {
 public:
  /// host: of a step, on the CPU; device: of each device operation of every layer (scales with a straggler's slowdown).
  explicit FixedCost(Duration host, Duration device = Duration{0}) : host_(model::fixed_from(host)), device_(model::fixed_from(device)) {}
  model::Price price(const model::Op&) const override { return {device_, false, "fixed"}; }
  model::ContextPrice context_price(const model::ModelShape&, const model::ParallelPlan&, std::int64_t) const override {
    return {{{device_, {}}}, false, "fixed"};
  }
  model::ExchangePrice exchange_price(const model::Op&) const override { return {{}, {}, {}, false, "fixed"}; }
  model::FixedTime host_step(model::Launch launch) const override {
    return launch == model::Launch::graph ? host_ : model::FixedTime{};  // prefill is launched eagerly
  }
  model::FixedTime host_launch(model::Launch, std::int64_t) const override { return {}; }

 private:
  model::FixedTime host_, device_;
};

inline Change with_cost(const experiment::ExperimentSpec& spec, Duration host, Duration device = Duration{0}) {
  return [&spec, host, device](experiment::Deployment& d) {
    for (auto* role : {d.prefill.get(), d.decode.get(), d.both.get()}) {
      if (role == nullptr) continue;
      role->pricer = std::make_unique<model::StepPricer>(spec.model, spec.device, role->plan, std::make_shared<FixedCost>(host, device));
    }
  };
}

}  // namespace faultline::test

// The contract of Executor on the simulator's group executor, priced for DeepSeek-V3 on two ranks.
#include "core/model/roofline.h"
#include "sim/ports/sim_clock.h"
#include "sim/ports/sim_executor.h"
#include "tests/contract/executor_contract.h"
#include "tests/sim/driver/scenario.h"

namespace faultline {
namespace {

model::StepPricer pricer_of_two_ranks() {
  config::Diagnostics diagnostics;
  const auto read = [](const std::string& path) {
    return *test::read_file(std::string(FAULTLINE_SOURCE_DIR) + "/topologies/" + path);
  };
  const model::ModelShape shape = model::read_model(read("models/deepseek-v3.yaml"), "model", diagnostics);
  const model::DeviceSpec device = model::read_device(read("devices/mi300x.yaml"), "device", diagnostics);
  diagnostics.throw_if_any();
  model::ParallelPlan plan;
  plan.dp = plan.ep = 2;
  return model::StepPricer(shape, device, plan, std::make_shared<model::RooflineCost>(device));
}

class SimExecutorWorld final : public contract::TwoRankExecutorWorld {
 public:
  Executor& executor() override { return executor_; }
  void fail_device() override { executor_.fail_device(); }
  bool run_until(const std::function<bool()>& done, Duration budget) override {
    const Instant end = clock_.now() + budget;
    while (!done()) {
      if (clock_.now() >= end) return false;
      clock_.advance_to(clock_.now() + Duration{500'000});
    }
    return true;
  }
  Instant now() override { return clock_.now(); }

 private:
  sim::SimClock clock_;
  model::StepPricer pricer_ = pricer_of_two_ranks();
  sim::SimExecutor executor_{clock_, pricer_};
};

const bool kRegistered = contract::register_contract<contract::ExecutorWorld>(
    "Executor", {.name = "Simulated", .make = [] { return std::make_unique<SimExecutorWorld>(); }, .missing = {}},
    contract::executor_clauses());

}  // namespace
}  // namespace faultline

// The contract of Clock on simulated time.
#include "sim/ports/sim_clock.h"
#include "tests/contract/clock_contract.h"

namespace faultline {
namespace {

class SimClockWorld final : public contract::ClockWorld {
 public:
  Clock& clock() override { return clock_; }
  void pass_until(Instant t) override { clock_.advance_to(t); }

 private:
  sim::SimClock clock_;
};

const bool kRegistered = contract::register_contract<contract::ClockWorld>(
    "Clock", {.name = "Simulated", .make = [] { return std::make_unique<SimClockWorld>(); }, .missing = {}},
    contract::clock_clauses());

}  // namespace
}  // namespace faultline

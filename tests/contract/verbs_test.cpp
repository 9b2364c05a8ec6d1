// The transport contract on VerbsTransport, on two software RoCE devices. Runs inside tests/support/rxe-vm.sh;
// elsewhere it is skipped visibly. The emulated machine is slow and has one core, so budgets are long and nothing
// asserts a speed.
#ifdef FAULTLINE_VERBS
#include "backend/transport/verbs_transport.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "backend/inproc/clocks.h"
#include "tests/contract/transport_contract.h"

namespace faultline::contract {
namespace {

using transport::VerbsSettings;
using transport::VerbsTransport;

class VerbsWorld final : public TransportWorld {
 public:
  explicit VerbsWorld(std::uint32_t qps) {
    for (std::size_t i = 0; i < 2; ++i) {
      VerbsSettings settings;
      settings.devices = {"rxe" + std::to_string(i)};
      settings.qps = qps;
      settings.timeout = 16;  // 1.9 s with 6 retries: a starved virtual machine is late without being broken
      settings.transfer_deadline = Duration{3'000'000'000};
      settings.chunk = Bytes{128 << 10};
      settings.stripe_min = Bytes{32 << 10};
      settings.ops_in_flight_max = 48;
      settings.control.secret = "contract";
      settings.control.failure_budget = Duration{3'000'000'000};
      settings.control.connect_timeout = Duration{20'000'000'000};
      sides_[i] = std::make_unique<VerbsTransport>(settings);
    }
  }
  ~VerbsWorld() override { mend_route(); }
  Transport& transport(int side) override { return *sides_[static_cast<std::size_t>(side)]; }
  void destroy(int side) override { sides_[static_cast<std::size_t>(side)].reset(); }
  bool run_until(const std::function<bool()>& done, Duration budget) override {
    const Instant end = clock_.now() + budget;
    while (!done()) {
      if (clock_.now() >= end) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(200));  // one core: the progress threads need it
    }
    return true;
  }
  void break_route() override {
    broken_ = true;
    run("tc qdisc add dev p0 root netem loss 100%");
    run("tc qdisc add dev p1 root netem loss 100%");
  }
  void mend_route() override {
    if (!std::exchange(broken_, false)) return;
    run("tc qdisc del dev p0 root");
    run("tc qdisc del dev p1 root");
  }
  Instant now() override { return clock_.now(); }
  Duration slack() const override { return Duration{30'000'000'000}; }
  std::uint64_t random_operations() const override { return 10'000; }

 private:
  static void run(const char* command) {
    if (std::system(command) != 0) std::fprintf(stderr, "failed: %s\n", command);
  }
  inproc::SteadyClock clock_;
  bool broken_ = false;
  std::array<std::unique_ptr<VerbsTransport>, 2> sides_;
};

std::string missing() {
  const auto devices = transport::verbs_devices();
  for (const char* name : {"rxe0", "rxe1"}) {
    if (std::find(devices.begin(), devices.end(), name) == devices.end()) {
      return std::string("no software RoCE device ") + name + ": run inside tests/support/rxe-vm.sh";
    }
  }
  return {};
}

const bool kRegistered =
    register_contract<TransportWorld>(
        "Transport", {.name = "Verbs", .make = [] { return std::make_unique<VerbsWorld>(1); }, .missing = missing()},
        transport_clauses()) &&
    register_contract<TransportWorld>(
        "Transport",
        {.name = "VerbsStriped", .make = [] { return std::make_unique<VerbsWorld>(3); }, .missing = missing()},
        transport_clauses());

}  // namespace
}  // namespace faultline::contract
#endif

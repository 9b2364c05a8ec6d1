// Kill-and-restart cycles of a verbs peer, on software RoCE in the virtual machine: no queue pair, registration,
// descriptor or memory is left over. FAULTLINE_CYCLES says how many.
#ifdef FAULTLINE_VERBS
#include "tests/support/peer_cycles.h"

#include <algorithm>

#include "backend/transport/verbs_transport.h"

namespace faultline::transport {
namespace {

std::unique_ptr<VerbsTransport> make(int side) {
  VerbsSettings settings;
  settings.devices = {"rxe" + std::to_string(side)};
  settings.timeout = 16;
  settings.ops_in_flight_max = 16;
  settings.chunk = Bytes{64 << 10};
  settings.transfer_deadline = Duration{10'000'000'000};
  settings.control.secret = "cycles";
  settings.control.failure_budget = Duration{20'000'000'000};
  settings.control.connect_timeout = Duration{20'000'000'000};
  return std::make_unique<VerbsTransport>(settings);
}

/// What the kernel has of a kind ("qp", "mr", "cq", "pd"), over both devices.
int kernel_objects(const char* kind) {
  std::FILE* pipe =
      ::popen((std::string("rdma resource show ") + kind + " 2>/dev/null | grep -c 'link rxe\\|dev rxe'").c_str(), "r");
  int count = -1;
  if (pipe && std::fscanf(pipe, "%d", &count) != 1) count = -1;
  if (pipe) ::pclose(pipe);
  return count;
}

TEST(PeerCycles, AVerbsPeerCanDieAgainAndAgain) {
  const auto devices = verbs_devices();
  for (const char* name : {"rxe0", "rxe1"}) {
    if (std::find(devices.begin(), devices.end(), name) == devices.end())
      GTEST_SKIP() << "no software RoCE device " << name << ": run inside tests/support/rxe-vm.sh";
  }
  test::PeerNursery nursery([] { return std::unique_ptr<Transport>(make(1)); });
  const auto stays = make(0);
  const int pairs = kernel_objects("qp"), regions = kernel_objects("mr");
  test::run_peer_cycles(nursery, *stays, test::cycles_wanted(40), 100'000);
  EXPECT_EQ(stays->counters().queue_pairs, 0U);
  EXPECT_EQ(kernel_objects("qp"), pairs);
  EXPECT_EQ(kernel_objects("mr"), regions);
  std::printf("  queue pairs %d -> %d, regions %d -> %d\n", pairs, kernel_objects("qp"), regions, kernel_objects("mr"));
}

}  // namespace
}  // namespace faultline::transport
#endif

// Kill-and-restart cycles of a TCP peer while this side's transport stays, over TCP, the ring and shared regions' path
// alike.
#include "tests/support/peer_cycles.h"

#include "backend/transport/tcp_transport.h"

namespace faultline::transport {
namespace {

class PeerCycles : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Paths, PeerCycles, ::testing::Values(false, true),
                         [](const auto& param) { return param.param ? "SameHost" : "Tcp"; });

TEST_P(PeerCycles, APeerCanDieAgainAndAgain) {
  const auto make = [same_host = GetParam()] {
    TcpSettings settings;
    settings.secret = "cycles";
    settings.same_host_path = same_host;
    settings.failure_budget = Duration{10'000'000'000};
    settings.connect_timeout = Duration{20'000'000'000};
    return std::make_unique<TcpTransport>(settings);
  };
  test::PeerNursery nursery([&] { return std::unique_ptr<Transport>(make()); });
  const auto stays = make();
  const std::uint64_t cycles = test::cycles_wanted(200);
  test::run_peer_cycles(nursery, *stays, cycles, 5'000);
  EXPECT_EQ(stays->counters().sessions_lost, cycles);
}

}  // namespace
}  // namespace faultline::transport

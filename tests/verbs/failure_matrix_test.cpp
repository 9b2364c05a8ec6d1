// Every way in which an RDMA path fails, on software RoCE: what ends the operations, when, with which cause, and that
// no late write lands. Runs in the virtual machine of tests/support/rxe-vm.sh (skipped visibly elsewhere), where h0 and
// h1 are the hosts' devices, p0 and p1 the switch's ports.
#ifdef FAULTLINE_VERBS
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "backend/transport/bench_link.h"
#include "backend/transport/verbs_transport.h"

namespace faultline::transport {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kWrite = 64 << 10;
// Beyond a budget: the progress thread's timer (20 ms), the end of the control connection, and processes of an emulated
// machine, of which the host may run only one at a time.
constexpr std::int64_t kSlackMs = 1'000;
constexpr std::int64_t kAtOnceMs = 100;  // what tells is an event, not a timer
// Software RoCE only: its queue pair is gone when no packet waits for a neighbour's answer any more, three tries of the
// 100 ms that rxe-vm.sh sets; and operations end after their queue pair.
constexpr std::int64_t kNeighbourMs = 300;

/// What a queue pair's retransmissions may take (IBTA 1.4, 9.7.6.1.3): every try waits 4.096 us * 2^timeout.
std::int64_t retransmission_ms(std::uint32_t timeout, std::uint32_t retries = VerbsSettings{}.retry_count) {
  return (retries + 1) * (4'096LL << timeout) / 1'000'000;
}

bool have_rxe() {
  const auto devices = verbs_devices();
  return std::find(devices.begin(), devices.end(), "rxe0") != devices.end() &&
         std::find(devices.begin(), devices.end(), "rxe1") != devices.end();
}

void shell(const std::string& command) { EXPECT_EQ(std::system(command.c_str()), 0) << command; }

LinkSettings link_of(std::uint32_t timeout = 14, Duration deadline = Duration{4'000'000'000}) {
  LinkSettings settings;
  settings.region_bytes = 1 << 20;
  settings.make = [timeout, deadline](int side) -> std::unique_ptr<Transport> {
    VerbsSettings verbs;
    verbs.devices = {"rxe" + std::to_string(side)};
    verbs.timeout = timeout;
    verbs.transfer_deadline = deadline;
    verbs.control.secret = "matrix";
    verbs.control.failure_budget =
        Duration{6'000'000'000};  // the control path stays whole here: it must not be the one that tells
    verbs.control.connect_timeout = Duration{20'000'000'000};
    return std::make_unique<VerbsTransport>(verbs);
  };
  return settings;
}

/// One line of the table at the end.
struct Row {
  std::string fault;
  std::string cause;
  std::int64_t budget_ms = 0;  // 0: nothing has to end
  std::int64_t ms = 0;
  std::string late;
};

class FailureMatrix : public ::testing::Test {
 protected:
  static inline std::vector<Row> table_;
  static void TearDownTestSuite() {
    if (table_.empty()) return;
    std::printf("\n%-34s %-12s %9s %9s  %s\n", "fault", "cause", "budget ms", "took ms", "late write");
    for (const Row& row : table_) {
      std::printf("%-34s %-12s %9s %9lld  %s\n", row.fault.c_str(), row.cause.c_str(),
                  row.budget_ms > 0 ? std::to_string(row.budget_ms).c_str() : "-", static_cast<long long>(row.ms),
                  row.late.empty() ? "-" : row.late.c_str());
    }
    std::printf(
        "(from the last completion; budgets are the retransmissions', or 'at once'; beyond them up to %lld ms of an "
        "emulated machine)\n\n",
        static_cast<long long>(kSlackMs));
  }
  void SetUp() override {
    if (!have_rxe()) GTEST_SKIP() << "no software RoCE devices rxe0 and rxe1: run inside tests/support/rxe-vm.sh";
  }
  struct Outcome {
    Cause cause = Cause::none;  // of the first failed operation
    Cause down = Cause::none;
    std::int64_t ms = 0;      // from the last completion, which was before the fault, to EndpointDown
    int completed_after = 0;  // operations that completed after the fault
    std::size_t unfinished = 0;
  };
  /// Eight writes in flight, the fault, then until EndpointDown or `limit_ms`.
  static Outcome inject(ProcessLink& link, const std::function<void()>& fault, std::int64_t limit_ms) {
    Outcome outcome;
    std::uint64_t op = 1'000'000;
    std::array<TransportEvent, 32> events;
    // The fault takes effect somewhere within its command, which takes a while to start on an emulated machine: what
    // the path has carried last is the better clock, and never too kind.
    auto alive = Clock::now();
    const auto turn = [&](bool post) {
      while (post && outcome.unfinished < 8 &&
             link.transport().post({OpId{++op}, kLinkPeer, {{kLinkLocal, {0}, kLinkRemote, {0}, {kWrite}}}, {}}))
        ++outcome.unfinished;
      const std::size_t count = link.transport().poll(events);
      for (std::size_t i = 0; i < count; ++i) {
        if (std::holds_alternative<OpCompleted>(events[i])) {
          --outcome.unfinished, ++outcome.completed_after;
          alive = Clock::now();
        }
        if (const auto* lost = std::get_if<OpFailed>(&events[i])) {
          --outcome.unfinished;
          if (outcome.cause == Cause::none) outcome.cause = lost->cause;
        }
        if (const auto* down = std::get_if<EndpointDown>(&events[i])) outcome.down = down->cause;
      }
      if (count == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    for (int i = 0; i < 20; ++i) turn(true);
    std::thread injector(fault);  // beside the traffic: from the poster itself the queue would drain first
    const auto start = Clock::now();
    outcome.completed_after = 0;
    const auto elapsed = [&] {
      return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count();
    };
    while (outcome.down == Cause::none && elapsed() < limit_ms) turn(true);
    outcome.ms = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - alive).count();
    injector.join();
    return outcome;
  }
  static void expect_end(const char* fault, const Outcome& outcome, std::initializer_list<Cause> causes,
                         std::int64_t budget_ms) {
    table_.push_back({fault, std::string(name_of(outcome.down)), budget_ms, outcome.ms, ""});
    EXPECT_TRUE(std::find(causes.begin(), causes.end(), outcome.down) != causes.end())
        << "down with " << name_of(outcome.down);
    EXPECT_TRUE(outcome.cause == Cause::none || outcome.cause == outcome.down) << name_of(outcome.cause);
    EXPECT_EQ(outcome.unfinished, 0U);
    EXPECT_LE(outcome.ms, budget_ms + kSlackMs);
  }
  /// After the end: change the source, give late packets time, and see that the peer's memory does not change any more.
  static void expect_no_late_write(ProcessLink& link) {
    const std::uint64_t before = link.remote_checksum();
    std::memset(link.memory().data(), 0x77, link.memory().size());
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    const bool same = link.remote_checksum() == before;
    EXPECT_TRUE(same) << "the peer's memory changed after the end of every operation";
    if (!table_.empty()) table_.back().late = same ? "none" : "YES";
  }
  /// A write that must be refused there: how long it took, what it said, and that nothing changed.
  static void expect_refused(const char* fault, ProcessLink& link, RegionId remote) {
    const std::uint64_t before = link.remote_checksum();
    std::memset(link.memory().data(), 0x31, link.memory().size());
    const auto start = Clock::now();
    const Cause cause = link.write({{kLinkLocal, {0}, remote, {0}, {100}}});
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count();
    EXPECT_EQ(cause, Cause::protection);
    const bool same = link.remote_checksum() == before;
    EXPECT_TRUE(same);
    EXPECT_LE(ms, kAtOnceMs + kSlackMs);
    table_.push_back({fault, std::string(name_of(cause)), kAtOnceMs, ms, same ? "none" : "YES"});
  }
};

TEST_F(FailureMatrix, AKilledPeerIsToldByItsControlConnectionAtOnce) {
  ProcessLink link(link_of(18));  // 7.5 s of retransmissions: the completion would come far too late
  const Outcome outcome = inject(
      link, [&] { link.signal_child(SIGKILL); }, 30'000);
  expect_end("peer killed", outcome, {Cause::peer_lost}, kAtOnceMs);
}

TEST_F(FailureMatrix, ABlackholeEndsWithTheRetransmissionBudget) {
  ProcessLink link(link_of(14));
  const Outcome outcome = inject(
      link, [] { shell("tc qdisc add dev p1 root netem loss 100%"); }, 30'000);
  expect_end("blackhole", outcome, {Cause::link_down}, retransmission_ms(14));
  shell("tc qdisc del dev p1 root");
  expect_no_late_write(link);
}

TEST_F(FailureMatrix, ALostCarrierAtThePeerIsABlackholeForUs) {
  ProcessLink link(link_of(14));
  const Outcome outcome = inject(
      link, [] { shell("ip link set p1 down"); }, 30'000);
  expect_end("peer's carrier", outcome, {Cause::link_down, Cause::peer_lost},
             retransmission_ms(14));  // the peer's own port event may reach us first, by its close
  shell("ip link set p1 up");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  expect_no_late_write(link);
}

TEST_F(FailureMatrix, ALostCarrierHereGivesAPortEventAndNoCompletion) {
  ProcessLink link(link_of(14, Duration{20'000'000'000}));
  const Outcome outcome = inject(
      link, [] { shell("ip link set p0 down"); }, 60'000);
  auto& verbs = dynamic_cast<VerbsTransport&>(link.transport());
  EXPECT_GE(verbs.counters().port_errors, 1U);
  expect_end("local carrier (no completion)", outcome, {Cause::link_down}, kAtOnceMs + kNeighbourMs);
  shell("ip link set p0 up");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  expect_no_late_write(link);
}

TEST_F(FailureMatrix, AFlapShorterThanTheBudgetIsOnlySlow) {
  ProcessLink link(link_of(17, Duration{20'000'000'000}));  // 3.8 s
  const Outcome outcome = inject(
      link,
      [] {
        shell("tc qdisc add dev p1 root netem loss 100%");
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        shell("tc qdisc del dev p1 root");
      },
      3'000);
  EXPECT_EQ(outcome.down, Cause::none);
  EXPECT_GT(outcome.completed_after, 0);
  EXPECT_EQ(link.write({{kLinkLocal, {0}, kLinkRemote, {0}, {100}}}), Cause::none);
  table_.push_back({"flap shorter than the budget", std::string(name_of(outcome.down)), 0, outcome.ms, ""});
}

TEST_F(FailureMatrix, AFlapLongerThanTheBudgetEndsTheConnection) {
  ProcessLink link(link_of(12));  // 0.12 s
  const Outcome outcome = inject(
      link,
      [] {
        shell("tc qdisc add dev p1 root netem loss 100%");
        std::this_thread::sleep_for(std::chrono::milliseconds(800));
        shell("tc qdisc del dev p1 root");
      },
      30'000);
  expect_end("flap longer than the budget", outcome, {Cause::link_down}, retransmission_ms(12));
  expect_no_late_write(link);
}

TEST_F(FailureMatrix, LostAcknowledgementsFailWhatHasArrived) {
  ProcessLink link(link_of(14));
  const Outcome outcome = inject(
      link, [] { shell("tc qdisc add dev p0 root netem loss 100%"); }, 30'000);
  expect_end("acknowledgements lost", outcome, {Cause::link_down}, retransmission_ms(14));
  shell("tc qdisc del dev p0 root");
  expect_no_late_write(link);
}

TEST_F(FailureMatrix, AWrongKeyIsAProtectionFault) {
  ProcessLink link(link_of(14));
  // The peer's own blob with another key, imported under a new id: the address is right, the key is not.
  // A blob is magic, identity, address, length, rkey (8 bytes each); the first write makes sure that the link works.
  ASSERT_EQ(link.write({{kLinkLocal, {0}, kLinkRemote, {0}, {100}}}), Cause::none);
  auto blob = link.remote_blob();
  ASSERT_EQ(blob.size(), 40U);
  blob[32] ^= std::byte{0x5a};
  ASSERT_TRUE(link.transport().import_region(RegionId{555}, kLinkPeer, blob));
  expect_refused("wrong key", link, RegionId{555});
}

TEST_F(FailureMatrix, ARevokedRegistrationIsAProtectionFault) {
  ProcessLink link(link_of(14));
  ASSERT_EQ(link.write({{kLinkLocal, {0}, kLinkRemote, {0}, {100}}}), Cause::none);
  ASSERT_TRUE(link.revoke_remote());
  expect_refused("registration revoked", link, kLinkRemote);
}

TEST_F(FailureMatrix, ADmabufRegistrationIsRefusedWhereTheKernelCannot) {
  VerbsSettings settings;
  settings.devices = {"rxe0"};
  settings.control.secret = "matrix";
  VerbsTransport transport(settings);
  EXPECT_EQ(transport.register_dmabuf(RegionId{9}, -1, Bytes{0}, Bytes{4096}, 0).cause(), Cause::protection);
}

}  // namespace
}  // namespace faultline::transport
#endif

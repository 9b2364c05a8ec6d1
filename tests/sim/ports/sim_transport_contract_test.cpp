// The Transport contract on the simulated transport, each clause in a process of its own (SimGrid's engine); and what
// only a simulated one can show: exact times, and a break that is mended within the retransmission budget.
#include "tests/sim/ports/sim_transport_world.h"

#include "tests/support/in_child.h"

namespace faultline {
namespace {

const bool kRegistered =
    contract::register_contract<contract::TransportWorld>("Transport",
                                                          {.name = "Simulated",
                                                           .make = [] { return std::make_unique<SimTransportWorld>(); },
                                                           .missing = {},
                                                           .own_process = true},
                                                          contract::transport_clauses()) &&
    contract::register_contract<contract::TransportWorld>(
        "Transport",
        {.name = "SimulatedInFaulty",
         .make = [] { return std::make_unique<DecoratedSimTransportWorld>(); },
         .missing = {},
         .own_process = true},
        contract::transport_clauses());

using contract::Link;
using namespace contract::transport_clauses_detail;

/// Runs in a child; what it returns is empty if all held.
void expect_in_child(const std::function<void(SimTransportWorld&, contract::Verdict&)>& body) {
  const std::string text = test::in_child([&] {
    contract::Verdict verdict;
    SimTransportWorld world;
    world.step = Duration{1'000};
    body(world, verdict);
    return "ran\n" + verdict.text();
  });
  EXPECT_EQ(text, "ran\n");
}

TEST(SimTransport, AWriteTakesItsBytesOverTheBottleneckItsLatencyAndAnAcknowledgement) {
  expect_in_child([](SimTransportWorld& w, contract::Verdict& v) {
    Link link(w, v);
    const std::size_t size = 50'000'000;  // 1 ms on a 400 Gb/s NIC
    if (!prepare(link, size)) return;
    const Instant start = w.now();
    link.write(0, {{kLocal, {0}, kRemote, {0}, {static_cast<std::int64_t>(size)}}});
    link.finish_all();
    const std::int64_t took = (w.now() - start).v;
    // Two cables, two leaves and a spine: a few microseconds each way; the acknowledgement takes 5 us.
    v.expect(took > 1'000'000 + 5'000 && took < 1'000'000 + 5'000 + 20'000, "{} ns", took);
  });
}

TEST(SimTransport, ABreakMendedWithinTheBudgetCostsItsLengthAndNothingElse) {
  expect_in_child([](SimTransportWorld& w, contract::Verdict& v) {
    Link link(w, v);
    const std::size_t size = 50'000'000;
    if (!prepare(link, size)) return;
    const auto pass = [&](Duration d) {
      const Instant end = w.now() + d;
      link.run_until([&] { return w.now() >= end; });
    };
    Instant start = w.now();
    link.write(0, {{kLocal, {0}, kRemote, {0}, {static_cast<std::int64_t>(size)}}}, 1);
    link.finish_all();
    const Duration whole = w.now() - start;
    start = w.now();
    link.write(0, {{kLocal, {0}, kRemote, {0}, {static_cast<std::int64_t>(size)}}}, 2);
    pass(Duration{400'000});
    w.break_route();
    w.step = Duration{1'000'000};
    pass(Duration{100'000'000});
    w.step = Duration{1'000};
    w.mend_route();
    link.finish_all();
    const std::int64_t extra = (w.now() - start - whole - Duration{100'000'000}).v;
    // What is left starts anew: its first byte pays the path's latency a second time.
    v.expect(extra >= 0 && extra < 20'000, "{} ns more than the break", extra);
    v.expect(link.side(0).failed.empty() && !link.side(0).down, "it failed");
  });
}

TEST(SimTransport, AWritePostedOnABrokenRouteGoesWhenTheRouteIsBackInTime) {
  expect_in_child([](SimTransportWorld& w, contract::Verdict& v) {
    Link link(w, v);
    if (!prepare(link)) return;
    w.break_route();
    const OpId op = link.write(0, {span_of(0, 0, 1'000)}, 3);
    w.step = Duration{1'000'000};
    const Instant mended = w.now() + Duration{200'000'000};
    link.run_until([&] { return w.now() >= mended; });
    v.expect(link.side(0).unfinished() == 1, "it ended while nothing could move");
    expect_untouched(link, 0, size_of_region());
    w.mend_route();
    link.finish_all();
    v.expect(link.completed(0, op), "it did not complete");
    expect_bytes(link, 0, 0, 1'000);
  });
}

TEST(SimTransport, ABrokenRouteIsReportedWhenTheRetransmissionBudgetHasPassedAndNotBefore) {
  expect_in_child([](SimTransportWorld& w, contract::Verdict& v) {
    Link link(w, v);
    if (!prepare(link, 50'000'000)) return;
    link.write(0, {{kLocal, {0}, kRemote, {0}, {50'000'000}}});
    const Instant broken = w.now() + Duration{300'000};
    link.run_until([&] { return w.now() >= broken; });
    w.break_route();
    w.step = Duration{1'000'000};
    link.run_until([&] { return link.side(0).unfinished() == 0; });
    v.expect((w.now() - broken).v == 500'000'000, "after {} ns", (w.now() - broken).v);
  });
}

}  // namespace
}  // namespace faultline

// FaultyTransport: transparent with an empty policy (the whole contract holds through it); with faults it keeps what
// the contract promises about ends, and does what its policy says.
#include "core/fault/faulty_transport.h"

#include "tests/contract/inproc_world.h"

namespace faultline::contract {
namespace {

using fault::FaultyTransport;
using fault::TransportFaults;

class FaultyWorld final : public DecoratedInprocWorld<FaultyTransport> {
 public:
  explicit FaultyWorld(const TransportFaults& faults = {})
      : DecoratedInprocWorld([faults](Transport& inner, const Clock& clock) {
          return std::make_unique<FaultyTransport>(inner, clock, faults);
        }),
        slack_(faults.extra_latency * 2 + Duration{1'000'000}) {}
  Duration slack() const override { return slack_; }

 protected:
  Instant next_due() override {
    Instant due = InprocWorld::next_due();
    for (const auto& side : outer_) {
      if (side) due = std::min(due, side->next_due());
    }
    return due;
  }

 private:
  Duration slack_;
};

const bool kRegistered =
    register_contract<TransportWorld>(
        "Transport", {.name = "InprocInFaulty", .make = [] { return std::make_unique<FaultyWorld>(); }, .missing = {}},
        transport_clauses()) &&
    // Slow links are within the contract: every clause holds on them too.
    register_contract<TransportWorld>(
        "Transport",
        {.name = "InprocInSlowFaulty",
         .make =
             [] {
               return std::make_unique<FaultyWorld>(
                   TransportFaults{.extra_latency = Duration{300'000}, .rate_limit = BytesPerSecond{50'000'000'000}});
             },
         .missing = {}},
        transport_clauses());

struct Outcome {
  std::size_t completed = 0, failed = 0, notified = 0, landed = 0;
  std::vector<std::uint64_t> failed_ops;
  std::uint64_t injected = 0;
  Duration took{};
};

/// `count` writes one after another, each with its own bytes and notify.
Outcome write_many(const TransportFaults& faults, Verdict& verdict, int count = 400) {
  using namespace transport_clauses_detail;
  FaultyWorld world(faults);
  Link link(world, verdict);
  Outcome outcome;
  if (!prepare(link)) return outcome;
  std::vector<OpId> ops;
  const Instant start = world.now();
  for (std::int64_t k = 0; k < count; ++k) {
    ops.push_back(link.write(0, {span_of(k * 64, k * 64, 64)}, static_cast<std::uint32_t>(k)));
    link.finish_all();
  }
  outcome.took = world.now() - start;
  link.settle();
  outcome.completed = link.side(0).completed.size();
  outcome.failed = link.side(0).failed.size();
  for (const OpFailed& lost : link.side(0).failed) outcome.failed_ops.push_back(lost.op.v);
  outcome.notified = link.side(1).notified.size();
  for (std::size_t k = 0; k < static_cast<std::size_t>(count); ++k) {
    outcome.landed +=
        equal(link.memory(0, kLocal).subspan(k * 64, 64), link.memory(1, kLocal).subspan(k * 64, 64)) ? 1 : 0;
  }
  outcome.injected = world.decorator(0).injected();
  return outcome;
}

TEST(FaultyTransport, LateFailuresLeaveTheBytesAndTheNotify) {
  Verdict verdict;
  const Outcome o = write_many({.seed = 3, .fail_late_ratio = 0.25}, verdict);
  EXPECT_TRUE(verdict.ok()) << verdict.text();
  EXPECT_EQ(o.completed + o.failed, 400U);
  EXPECT_EQ(o.failed, o.injected);
  EXPECT_NEAR(static_cast<double>(o.failed), 100, 45);  // binomial, 5 standard deviations of 8.7
  EXPECT_EQ(o.landed, 400U);
  EXPECT_EQ(o.notified, 400U);
}

TEST(FaultyTransport, EarlyFailuresMoveNothing) {
  Verdict verdict;
  const Outcome o = write_many({.seed = 3, .fail_early_ratio = 0.25}, verdict);
  EXPECT_TRUE(verdict.ok()) << verdict.text();
  EXPECT_GT(o.failed, 0U);
  EXPECT_EQ(o.landed, o.completed);
  EXPECT_EQ(o.notified, o.completed);
}

TEST(FaultyTransport, ALostNotifyFailsItsOperationAfterTheBytesArrived) {
  Verdict verdict;
  const Outcome o = write_many({.seed = 4, .lose_notify_ratio = 0.25}, verdict);
  EXPECT_TRUE(verdict.ok()) << verdict.text();
  EXPECT_GT(o.failed, 0U);
  EXPECT_EQ(o.landed, 400U);
  EXPECT_EQ(o.notified, o.completed);
}

TEST(FaultyTransport, AStalledOperationEndsWhenTheBudgetHasPassed) {
  Verdict verdict;
  const Outcome o = write_many({.seed = 5, .stall_ratio = 1}, verdict, 3);
  EXPECT_TRUE(verdict.ok()) << verdict.text();
  EXPECT_EQ(o.failed, 3U);
  const Duration budget = inproc::FabricSettings{}.failure_budget;
  EXPECT_EQ(o.took.v, 3 * budget.v);
}

TEST(FaultyTransport, TheSameSeedFailsTheSameOperationsWhateverTheOtherFaults) {
  Verdict verdict;
  const Outcome a = write_many({.seed = 6, .fail_late_ratio = 0.1}, verdict);
  const Outcome b = write_many({.seed = 6, .fail_late_ratio = 0.1, .extra_latency = Duration{1'000'000}}, verdict);
  const Outcome c = write_many({.seed = 7, .fail_late_ratio = 0.1}, verdict);
  EXPECT_TRUE(verdict.ok()) << verdict.text();
  EXPECT_EQ(a.failed_ops, b.failed_ops);
  EXPECT_NE(a.failed_ops, c.failed_ops);
}

TEST(FaultyTransport, ARateLimitStretchesTransfers) {
  Verdict verdict;
  // 400 x 64 B at 1 MB/s: 25.6 ms; the path itself adds 400 round trips of 10 us and the bytes at 10 GB/s (below 10
  // us).
  const Outcome o = write_many({.rate_limit = BytesPerSecond{1'000'000}}, verdict);
  EXPECT_TRUE(verdict.ok()) << verdict.text();
  EXPECT_GE(o.took.v, 25'600'000);
  EXPECT_LE(o.took.v, 25'600'000 + 400 * 10'000 + 10'000);
}

TEST(FaultyTransport, PromisesAboutEndsHoldUnderEveryFault) {
  using namespace transport_clauses_detail;
  const TransportFaults faults{.seed = 9,
                               .fail_early_ratio = 0.1,
                               .fail_late_ratio = 0.1,
                               .lose_notify_ratio = 0.1,
                               .stall_ratio = 0.1,
                               .extra_latency = Duration{200'000},
                               .rate_limit = BytesPerSecond{1'000'000'000}};
  for (const auto clause :
       {close_fails_the_rest_and_then_reports_down, the_other_side_sees_a_close, a_peer_that_dies_fails_its_operations,
        a_broken_route_fails_every_operation_within_the_budget, destruction_with_work_in_flight_is_safe,
        a_span_out_of_range_is_refused_and_writes_nothing, unknown_ids_are_refused}) {
    FaultyWorld world(faults);
    Verdict verdict;
    clause(world, verdict);
    EXPECT_TRUE(verdict.ok()) << verdict.text();
  }
}

}  // namespace
}  // namespace faultline::contract

// The all-reduce over in-process transports in virtual time.
#include "backend/ep/all_reduce.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>

#include "backend/inproc/clocks.h"
#include "backend/inproc/inproc_transport.h"
#include "core/base/random.h"

namespace faultline::ep {
namespace {

constexpr RegionId kWindow{1};
constexpr std::uint32_t kRanks = 8, kLength = 100;
constexpr Duration kWait{50'000'000};

struct Group {
  inproc::ManualClock clock;
  inproc::Fabric fabric{clock, {.failure_budget = Duration{10'000'000'000}}};
  std::vector<std::vector<std::byte>> windows;
  std::vector<std::unique_ptr<inproc::InprocTransport>> transports;
  std::vector<std::unique_ptr<AllReduce>> ranks;
  std::set<std::uint32_t> hung;
  std::uint64_t ops = 0;

  Group() {
    for (std::uint32_t r = 0; r < kRanks; ++r) {
      transports.push_back(std::make_unique<inproc::InprocTransport>(fabric));
      windows.emplace_back(AllReduce::window_bytes(settings(r)));
      EXPECT_TRUE(transports[r]->register_memory(kWindow, windows[r]));
    }
    for (std::uint32_t r = 0; r < kRanks; ++r) {
      std::vector<EndpointId> peers(kRanks);
      std::vector<RegionId> remote(kRanks);
      for (std::uint32_t q = 0; q < kRanks; ++q) {
        if (q == r) continue;
        peers[q] = EndpointId{q};
        remote[q] = RegionId{100 + q};
        EXPECT_TRUE(transports[r]->open(peers[q], transports[q]->local_address()));
        EXPECT_TRUE(transports[r]->import_region(remote[q], peers[q], transports[q]->export_region(kWindow)));
      }
      ranks.push_back(std::make_unique<AllReduce>(settings(r), *transports[r], windows[r], kWindow, peers, remote,
                                                  [this] { return OpId{++ops}; }));
    }
    run(Duration{1'000'000}, false);
  }
  static AllReduceSettings settings(std::uint32_t rank) {
    return {.ranks = kRanks, .rank = rank, .length_max = kLength, .wait_max = kWait};
  }

  bool acts(std::uint32_t r) const { return ranks[r] && !hung.contains(r); }
  Duration run(Duration budget, bool until_done = true) {
    const Instant start = clock.now();
    std::array<TransportEvent, 32> out;
    while (clock.now() < start + budget) {
      bool all = true;
      for (std::uint32_t r = 0; r < kRanks; ++r) {
        if (!acts(r)) continue;
        for (std::size_t count = 0; (count = transports[r]->poll(out)) > 0;) {
          for (std::size_t i = 0; i < count; ++i) ranks[r]->handle(out[i]);
        }
        ranks[r]->tick(clock.now());
        all = all && ranks[r]->done();
      }
      if (all && until_done) break;
      Instant next = fabric.next_due();
      for (std::uint32_t r = 0; r < kRanks; ++r) next = std::min(next, acts(r) ? ranks[r]->next_deadline() : kNever);
      clock.advance_to(std::clamp(next, clock.now() + Duration{1'000}, start + budget));
    }
    return clock.now() - start;
  }
  /// The sum, in order of rank, over the ranks that take part.
  Duration step(std::uint64_t number) {
    std::vector<std::vector<float>> parts(kRanks);
    std::vector<float> expected(kLength, 0.0F);
    for (std::uint32_t r = 0; r < kRanks; ++r) {
      Random random(5, "test/all_reduce", r, number);
      for (std::uint32_t i = 0; i < kLength; ++i) parts[r].push_back(static_cast<float>(random.normal()));
      if (!acts(r)) continue;
      for (std::uint32_t i = 0; i < kLength; ++i) expected[i] += parts[r][i];
      ranks[r]->start(clock.now(), parts[r]);
    }
    const Duration took = run(Duration{10'000'000'000});
    for (std::uint32_t r = 0; r < kRanks; ++r) {
      if (!acts(r)) continue;
      EXPECT_TRUE(ranks[r]->done());
      EXPECT_EQ(ranks[r]->result(), expected) << "step " << number << " rank " << r;  // same bits everywhere
    }
    return took;
  }
};

TEST(AllReduce, EveryRankHasTheSameBits) {
  Group group;
  for (std::uint64_t step = 0; step < 20; ++step) {
    group.step(step);
    EXPECT_TRUE(group.ranks[3]->whole());
  }
}

TEST(AllReduce, AHungRankCostsOneWaitIsMarkedAndThenCostsNothing) {
  Group group;
  const Duration healthy = group.step(0);
  group.hung.insert(2);
  EXPECT_LE(group.step(1).v, kWait.v + 10 * healthy.v);
  EXPECT_FALSE(group.ranks[0]->whole());
  EXPECT_EQ(group.ranks[0]->dead(), 4U);
  EXPECT_LE(group.step(2).v, 2 * healthy.v);
}

TEST(AllReduce, ADeadRankIsNoticedWithoutAWait) {
  Group group;
  const Duration healthy = group.step(0);
  group.ranks[7].reset();
  group.transports[7].reset();
  EXPECT_LE(group.step(1).v, kWait.v / 2 + healthy.v);
  EXPECT_EQ(group.ranks[0]->dead(), 128U);
}

}  // namespace
}  // namespace faultline::ep

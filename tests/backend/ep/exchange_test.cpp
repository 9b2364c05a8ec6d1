// The EP exchange over in-process transports in virtual time: equal to the single-process layer bit for bit, and dead
// ranks cost one bounded wait, once.
#include "backend/ep/exchange.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "backend/ep/reference.h"
#include "backend/inproc/clocks.h"
#include "backend/inproc/inproc_transport.h"
#include "core/base/random.h"

namespace faultline::ep {
namespace {

constexpr RegionId kWindow{1};

std::vector<float> compute(std::span<const std::pair<std::uint32_t, float>> experts, std::span<const float> value) {
  std::vector<float> out(value.size(), 0.0F);
  for (const auto& [expert, weight] : experts) {
    for (std::size_t h = 0; h < value.size(); ++h)
      out[h] += weight * (value[h] * (1.0F + 0.1F * static_cast<float>(expert)) + 0.01F * static_cast<float>(h));
  }
  return out;
}

struct Input {
  std::vector<float> values, weights;
  std::vector<std::uint32_t> experts;
};

class Group {
 public:
  explicit Group(ExchangeSettings settings)
      : s_(settings), fabric_(clock_, {.failure_budget = Duration{10'000'000'000}, .ops_in_flight_max = 1024}) {
    const std::uint32_t n = s_.ranks;
    for (std::uint32_t r = 0; r < n; ++r) {
      transports_.push_back(std::make_unique<inproc::InprocTransport>(fabric_));
      windows_.emplace_back(Exchange::window_bytes(s_));
      EXPECT_TRUE(transports_[r]->register_memory(kWindow, windows_[r]));
    }
    for (std::uint32_t r = 0; r < n; ++r) {
      std::vector<EndpointId> peers(n);
      std::vector<RegionId> remote(n);
      for (std::uint32_t q = 0; q < n; ++q) {
        if (q == r) continue;
        peers[q] = EndpointId{q};
        remote[q] = RegionId{100 + q};
        EXPECT_TRUE(transports_[r]->open(peers[q], transports_[q]->local_address()));
        EXPECT_TRUE(transports_[r]->import_region(remote[q], peers[q], transports_[q]->export_region(kWindow)));
      }
      ExchangeSettings mine = s_;
      mine.rank = r;
      exchanges_.push_back(std::make_unique<Exchange>(mine, *transports_[r], windows_[r], kWindow, peers, remote,
                                                      [this] { return OpId{++ops_}; }));
    }
    run([] { return false; }, Duration{1'000'000});
  }

  Input input(std::uint32_t rank, std::uint64_t step) const {
    Random r(7, "test/ep", rank, step);
    const std::uint32_t tokens = static_cast<std::uint32_t>(r.below(s_.tokens_max + 1));
    Input in;
    for (std::uint32_t t = 0; t < tokens; ++t) {
      std::vector<std::uint32_t> all(s_.experts);
      for (std::uint32_t e = 0; e < s_.experts; ++e) all[e] = e;
      for (std::uint32_t k = 0; k < s_.topk; ++k) {
        std::swap(all[k], all[k + r.below(s_.experts - k)]);
        in.experts.push_back(all[k]);
        in.weights.push_back(static_cast<float>(r.uniform()));
      }
      for (std::uint32_t h = 0; h < s_.hidden; ++h) in.values.push_back(static_cast<float>(r.normal()));
    }
    return in;
  }

  /// One step of all living ranks; the results compared with the reference where nothing is flagged.
  /// `late` dispatches only when it has heard of every death so far; the others at once.
  void step(std::uint64_t number, std::optional<std::uint32_t> late = {}) {
    std::vector<Input> inputs;
    for (std::uint32_t r = 0; r < s_.ranks; ++r) inputs.push_back(input(r, number));
    const Instant start = clock_.now();
    std::vector<bool> combining(s_.ranks, false);
    for (std::uint32_t r = 0; r < s_.ranks; ++r) {
      if (exchanges_[r] && !hung_.contains(r) && r != late)
        exchanges_[r]->dispatch(clock_.now(), inputs[r].values, inputs[r].experts, inputs[r].weights);
    }
    if (late) {
      ASSERT_TRUE(run([&] { return exchanges_[*late]->dead() != 0; }, Duration{20'000'000'000}));
      exchanges_[*late]->dispatch(clock_.now(), inputs[*late].values, inputs[*late].experts, inputs[*late].weights);
    }
    const bool done = run(
        [&] {
          bool all = true;
          for (std::uint32_t r = 0; r < s_.ranks; ++r) {
            if (!exchanges_[r] || hung_.contains(r)) continue;
            Exchange& e = *exchanges_[r];
            if (!combining[r] && e.dispatched()) {
              std::vector<float> results;
              for (const Arrival& arrival : e.arrivals()) {
                const auto part = compute(arrival.experts, arrival.value);
                results.insert(results.end(), part.begin(), part.end());
              }
              combining[r] = true;
              e.combine(clock_.now(), results);
            }
            all = all && combining[r] && e.combined();
          }
          return all;
        },
        Duration{60'000'000'000});
    ASSERT_TRUE(done) << "step " << number << " never ended";
    took_ = clock_.now() - start;
    flagged_ = 0;
    for (std::uint32_t r = 0; r < s_.ranks; ++r) {
      if (!exchanges_[r] || hung_.contains(r)) continue;
      const Combined& result = exchanges_[r]->result();
      const auto expected = reference_moe(s_.ranks, s_.experts, s_.topk, s_.hidden, inputs[r].values, inputs[r].experts,
                                          inputs[r].weights, compute);
      ASSERT_EQ(result.value.size(), expected.size());
      for (std::size_t t = 0; t < result.whole.size(); ++t) {
        bool needs_dead = false;
        for (std::uint32_t k = 0; k < s_.topk; ++k) {
          const auto owner =
              static_cast<std::uint32_t>(std::uint64_t{inputs[r].experts[t * s_.topk + k]} * s_.ranks / s_.experts);
          needs_dead = needs_dead || (result.dead >> owner & 1) != 0;
        }
        EXPECT_FALSE(needs_dead && result.whole[t]) << "a token that lacks an expert is not flagged";
        if (!result.whole[t]) {
          ++flagged_;
          continue;
        }
        for (std::uint32_t h = 0; h < s_.hidden; ++h) {
          ASSERT_EQ(result.value[t * s_.hidden + h], expected[t * s_.hidden + h])
              << "step " << number << " rank " << r << " token " << t;  // exact
        }
      }
    }
  }

  void kill(std::uint32_t rank) {
    exchanges_[rank].reset();
    transports_[rank].reset();
  }
  /// Its transport lives, its worker does nothing any more.
  void hang(std::uint32_t rank) { hung_.insert(rank); }
  Exchange& at(std::uint32_t rank) { return *exchanges_[rank]; }
  Duration took() const { return took_; }
  std::size_t flagged() const { return flagged_; }

 private:
  bool run(const std::function<bool()>& done, Duration budget) {
    const Instant end = clock_.now() + budget;
    std::array<TransportEvent, 32> out;
    for (;;) {
      for (std::uint32_t r = 0; r < s_.ranks; ++r) {
        if (!exchanges_[r] || hung_.contains(r)) continue;
        for (std::size_t count = 0; (count = transports_[r]->poll(out)) > 0;) {
          for (std::size_t i = 0; i < count; ++i) exchanges_[r]->handle(out[i], clock_.now());
        }
        exchanges_[r]->tick(clock_.now());
      }
      if (done()) return true;
      if (clock_.now() >= end) return false;
      Instant next = fabric_.next_due();
      for (const auto& e : exchanges_) next = std::min(next, e ? e->next_deadline() : kNever);
      clock_.advance_to(std::clamp(next, clock_.now() + Duration{1'000}, end));
    }
  }

  ExchangeSettings s_;
  inproc::ManualClock clock_;
  inproc::Fabric fabric_;
  std::vector<std::vector<std::byte>> windows_;
  std::vector<std::unique_ptr<inproc::InprocTransport>> transports_;
  std::vector<std::unique_ptr<Exchange>> exchanges_;
  std::set<std::uint32_t> hung_;
  std::uint64_t ops_ = 0;
  Duration took_{};
  std::size_t flagged_ = 0;
};

ExchangeSettings settings_of(Variant variant, std::uint32_t ranks = 8, std::uint32_t per_node = 4) {
  return {.ranks = ranks,
          .ranks_per_node = per_node,
          .rank = 0,
          .experts = 32,
          .topk = 4,
          .hidden = 16,
          .tokens_max = 24,
          .variant = variant,
          .wait_max = Duration{100'000'000}};
}

class EpExchange : public ::testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(Variants, EpExchange, ::testing::Values(Variant::low_latency, Variant::high_throughput),
                         [](const auto& param) {
                           return param.param == Variant::low_latency ? "LowLatency" : "HighThroughput";
                         });

TEST_P(EpExchange, EqualsTheSingleProcessLayerBitForBit) {
  for (const auto& [ranks, per_node] :
       std::vector<std::pair<std::uint32_t, std::uint32_t>>{{1, 1}, {2, 1}, {4, 4}, {8, 4}, {16, 8}}) {
    Group group(settings_of(GetParam(), ranks, per_node));
    for (std::uint64_t step = 0; step < 12; ++step) {
      group.step(step);
      EXPECT_EQ(group.flagged(), 0U);
    }
  }
}

TEST_P(EpExchange, ADeadRankCostsAtMostOneWaitAndThenNothing) {
  for (std::uint32_t victim = 0; victim < 8; ++victim) {
    Group group(settings_of(GetParam()));
    group.step(0);
    const Duration healthy = group.took();
    group.kill(victim);
    group.step(1);
    EXPECT_LE(group.took().v, 2 * 100'000'000 + 10 * healthy.v);  // one wait in dispatch, one in combine
    for (std::uint64_t step = 2; step < 6; ++step) {
      group.step(step);
      // Fewer ranks, so a little more or less data: a step costs about what it did, and no wait.
      EXPECT_LE(group.took().v, 2 * healthy.v + 100'000) << "victim " << victim << " step " << step;
      EXPECT_EQ(group.at((victim + 1) % 8).dead(), 1ULL << victim);
    }
  }
}

TEST_P(EpExchange, AHungRankIsFoundByTheBoundedWait) {
  for (std::uint32_t victim : {0U, 3U, 5U}) {
    Group group(settings_of(GetParam()));
    group.step(0);
    const Duration healthy = group.took();
    group.hang(victim);
    group.step(1);
    EXPECT_LE(group.took().v, 2 * 100'000'000 + 10 * healthy.v);
    for (std::uint32_t r = 0; r < 8; ++r) {
      if (r == victim) continue;
      EXPECT_EQ(group.at(r).dead(), 1ULL << victim) << "rank " << r;  // nobody else is blamed
    }
    group.step(2);
    EXPECT_LE(group.took().v, 2 * healthy.v + 100'000);
  }
}

TEST_P(EpExchange, ARankThatHearsOfADeathBeforeItBeginsDoesNotWaitForTokensThatWentToTheDead) {
  for (std::uint32_t victim = 0; victim < 8; ++victim) {
    Group group(settings_of(GetParam()));
    group.step(0);
    group.kill(victim);
    group.step(1, (victim + 1) % 4 + victim / 4 * 4);  // a neighbour: what the others sent it went through the victim
    for (std::uint32_t r = 0; r < 8; ++r) {
      if (r != victim) {
        EXPECT_EQ(group.at(r).dead(), 1ULL << victim) << "rank " << r << ": nobody else is blamed";
      }
    }
    group.step(2);
  }
}

TEST_P(EpExchange, TwoDeadRanksOfOneNodeStillLeaveAWayIn) {
  Group group(settings_of(GetParam()));
  group.step(0);
  group.kill(4);
  group.kill(5);
  for (std::uint64_t step = 1; step < 5; ++step) group.step(step);
  EXPECT_EQ(group.at(0).dead(), 0x30U);
  EXPECT_GT(group.flagged(), 0U);
}

TEST(EpExchangeTraffic, ATokenForSeveralRanksOfANodeCrossesOnce) {
  Group low(settings_of(Variant::low_latency, 8, 4));
  Group high(settings_of(Variant::high_throughput, 8, 4));
  for (std::uint64_t step = 0; step < 8; ++step) {
    low.step(step);
    high.step(step);
  }
  std::int64_t low_bytes = 0, high_bytes = 0;
  for (std::uint32_t r = 0; r < 8; ++r) {
    low_bytes += low.at(r).counters().bytes_between_nodes;
    high_bytes += high.at(r).counters().bytes_between_nodes;
  }
  // Top 4 of 8 ranks: a token needs about 1.66 of the other node's 4 ranks when it needs any; results cross alike in
  // both.
  EXPECT_LT(high_bytes, low_bytes * 85 / 100) << "high " << high_bytes << " low " << low_bytes;
}

}  // namespace
}  // namespace faultline::ep

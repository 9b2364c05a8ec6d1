// Sharing of links, to the nanosecond, and against an independent max-min solver.
#include "sim/engine/flow_net.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <sstream>

#include "core/base/random.h"
#include "tests/support/in_child.h"

namespace faultline::sim {
namespace {

using namespace faultline::literals;
using topology::LinkIndex;

constexpr std::int64_t kSecond = 1'000'000'000;

/// A FlowNet with actions at given instants; gives when each flow ended, by the label it was started with.
class Script {
 public:
  explicit Script(std::vector<BytesPerSecond> capacity) : net_(FlowNet::open(capacity)) {}

  void at(Instant t, std::function<void(Instant)> action) { actions_.emplace(t, std::move(action)); }
  void start(Instant t, char label, std::vector<std::uint32_t> links, Bytes bytes, Duration latency = Duration{0}) {
    at(t, [=, this](Instant) { begin(label, links, bytes, latency); });
  }
  void capacity(Instant t, std::uint32_t link, BytesPerSecond value) {
    at(t, [=, this](Instant) { net_->set_capacity(LinkIndex{link}, value); });
  }
  void begin(char label, const std::vector<std::uint32_t>& links, Bytes bytes, Duration latency = Duration{0}) {
    std::vector<LinkIndex> path;
    for (const std::uint32_t l : links) path.push_back(LinkIndex{l});
    label_[net_->start(path, bytes, latency)] = label;
    id_[label] = net_->started();
  }
  FlowId id(char label) const { return id_.at(label); }
  FlowNet& net() { return *net_; }
  std::string& trail() { return trail_; }

  /// "a=1000000000 b=…", in the order in which they ended.
  std::string run() {
    net_->run([this] { return actions_.empty() ? kNever : actions_.begin()->first; },
              [this](Instant t) {
                const auto action = std::move(actions_.begin()->second);
                actions_.erase(actions_.begin());
                action(t);
              },
              [this](Instant t, std::span<const FlowId> ended) {
                for (const FlowId f : ended) trail_ += fmt::format("{}={} ", label_.at(f), t.ns);
              });
    return trail_;
  }

 private:
  std::unique_ptr<FlowNet> net_;
  std::multimap<Instant, std::function<void(Instant)>> actions_;
  std::map<FlowId, char> label_;
  std::map<char, FlowId> id_;
  std::string trail_;
};

constexpr Instant kStart{0};

TEST(FlowNet, TwoFlowsShareALinkEquallyUntilTheShorterEnds) {
  EXPECT_EQ(test::in_child([] {
              Script s({1_GBps});
              s.start(kStart, 'a', {0}, Bytes{1'000'000'000});
              s.start(kStart, 'b', {0}, Bytes{2'000'000'000});
              return s.run();
            }),
            "a=2000000000 b=3000000000 ");
}

TEST(FlowNet, AParkingLotGivesMaxMinShares) {
  EXPECT_EQ(test::in_child([] {
              Script s({1_GBps, 2_GBps});
              s.start(kStart, 'l', {0, 1}, Bytes{1'000'000'000});
              s.start(kStart, 'a', {0}, Bytes{1'000'000'000});
              s.start(kStart, 'b', {1}, Bytes{3'000'000'000});
              return s.run();
            }),
            "l=2000000000 a=2000000000 b=2000000000 ");
}

TEST(FlowNet, AFlowThatEndsGivesItsShareToTheOthersAtOnce) {
  EXPECT_EQ(test::in_child([] {
              Script s({1_GBps, 2_GBps});
              s.start(kStart, 'l', {0, 1}, Bytes{500'000'000});
              s.start(kStart, 'a', {0}, Bytes{1'000'000'000});
              s.start(kStart, 'b', {1}, Bytes{3'000'000'000});
              return s.run();
            }),
            "l=1000000000 a=1500000000 b=1750000000 ");
}

// A weight by round-trip time, SimGrid's default, would give the long flow a third: 2.125, 1.5 and 1.875 s.
TEST(FlowNet, LatencyDelaysTheFirstByteAndDoesNotChangeShares) {
  EXPECT_EQ(test::in_child([] {
              Script s({1_GBps, 2_GBps});
              s.start(kStart, 'l', {0, 1}, Bytes{1'000'000'000}, 2_us);
              s.start(kStart, 'a', {0}, Bytes{1'000'000'000}, 1_us);
              s.start(kStart, 'b', {1}, Bytes{3'000'000'000}, 1_us);
              return s.run();
            }),
            "a=2000000000 l=2000001000 b=2000001000 ");
}

TEST(FlowNet, CapacityChangesBothWaysApplyToRunningFlows) {
  EXPECT_EQ(test::in_child([] {
              Script s({1_GBps});
              s.start(kStart, 'a', {0}, Bytes{2'000'000'000});
              s.capacity(Instant{kSecond}, 0, BytesPerSecond{250'000'000});
              return s.run();
            }),
            "a=5000000000 ");
  EXPECT_EQ(test::in_child([] {
              Script s({1_GBps});
              s.start(kStart, 'a', {0}, Bytes{2'000'000'000});
              s.capacity(Instant{kSecond}, 0, BytesPerSecond{250'000'000});
              s.capacity(Instant{2 * kSecond}, 0, 1_GBps);
              return s.run();
            }),
            "a=2750000000 ");
}

// A flow's bound must not stay at the bandwidth of its start.
TEST(FlowNet, AFlowThatStartsOnADegradedLinkSpeedsUpWhenTheLinkRecovers) {
  EXPECT_EQ(test::in_child([] {
              Script s({1_GBps});
              s.capacity(kStart, 0, BytesPerSecond{100'000'000});
              s.start(kStart, 'a', {0}, Bytes{1'000'000'000});
              s.capacity(Instant{kSecond}, 0, 1_GBps);
              return s.run();
            }),
            "a=1900000000 ");
}

TEST(FlowNet, CancelingKeepsWhatIsLeftAndFreesTheShare) {
  EXPECT_EQ(
      test::in_child([] {
        Script s({1_GBps});
        s.start(kStart, 'a', {0}, Bytes{2'000'000'000});
        s.start(kStart, 'b', {0}, Bytes{2'000'000'000});
        s.at(Instant{kSecond}, [&s](Instant) {
          const Bytes left = s.net().remaining(s.id('a'));
          s.trail() += fmt::format("left={} ", left.v);
          s.net().cancel(s.id('a'));
          s.at(Instant{2 * kSecond}, [&s, left](Instant) { s.begin('c', {0}, left); });
        });
        return s.run();
      }),
      // b: 0.5 GB by 1 s, 1.5 GB by 2 s, then half the rate for its last 0.5 GB; c: 0.5 GB by 3 s, alone for 1 GB.
      "left=1500000000 b=3000000000 c=4000000000 ");
}

TEST(FlowNet, AFlowOfNoBytesEndsAfterItsLatency) {
  EXPECT_EQ(test::in_child([] {
              Script s({1_GBps});
              s.start(kStart, 'a', {0}, Bytes{0}, 5_us);
              return s.run();
            }),
            "a=5000 ");
}

TEST(FlowNet, FlowsThatEndAtOneInstantAreToldTogetherInTheOrderOfTheirStart) {
  EXPECT_EQ(test::in_child([] {
              Script s({1_GBps, 1_GBps, 1_GBps});
              for (const char label : {'c', 'a', 'b'}) {
                s.start(kStart, label, {static_cast<std::uint32_t>(label - 'a')}, Bytes{1'000'000'000});
              }
              return s.run();
            }),
            "c=1000000000 a=1000000000 b=1000000000 ");
}

TEST(FlowNet, NanosecondsSurviveADayOfSimulatedTime) {
  constexpr std::int64_t day = 86'400 * kSecond;
  EXPECT_EQ(test::in_child([] {
              Script s({1_GBps});
              s.start(Instant{day}, 'a', {0}, Bytes{1'000}, 1_us);
              return s.run();
            }),
            fmt::format("a={} ", day + 2'000));
}

// ---- against another solver
// ------------------------------------------------------------------------------------------

struct RandomFlow {
  double start, bytes;
  std::vector<std::uint32_t> links;
};
struct CapacityChange {
  double at;
  std::uint32_t link;
  double value;
};

/// Progressive filling: the link with the smallest fair share fixes its flows, then the next.
std::vector<double> max_min(const std::vector<const RandomFlow*>& flows, std::vector<double> capacity) {
  std::vector<double> rate(flows.size(), -1);
  for (;;) {
    double least = HUGE_VAL;
    std::size_t which = capacity.size();
    for (std::size_t l = 0; l < capacity.size(); ++l) {
      int users = 0;
      for (std::size_t f = 0; f < flows.size(); ++f) {
        users += rate[f] < 0 && std::count(flows[f]->links.begin(), flows[f]->links.end(), l) > 0 ? 1 : 0;
      }
      if (users > 0 && capacity[l] / users < least) least = capacity[l] / users, which = l;
    }
    if (which == capacity.size()) return rate;
    for (std::size_t f = 0; f < flows.size(); ++f) {
      if (rate[f] >= 0 || std::count(flows[f]->links.begin(), flows[f]->links.end(), which) == 0) continue;
      rate[f] = least;
      for (const std::uint32_t l : flows[f]->links) capacity[l] -= least;
    }
  }
}

std::vector<double> expected_ends(const std::vector<RandomFlow>& flows, const std::vector<CapacityChange>& changes,
                                  std::vector<double> capacity) {
  std::vector<double> left, end(flows.size(), -1);
  for (const RandomFlow& f : flows) left.push_back(f.bytes);
  double now = 0;
  for (std::size_t done = 0; done < flows.size();) {
    std::vector<const RandomFlow*> running;
    std::vector<std::size_t> index;
    double next = HUGE_VAL;
    for (std::size_t f = 0; f < flows.size(); ++f) {
      if (end[f] >= 0) continue;
      if (flows[f].start > now) next = std::min(next, flows[f].start);
      else running.push_back(&flows[f]), index.push_back(f);
    }
    for (const CapacityChange& c : changes) {
      if (c.at > now) next = std::min(next, c.at);
    }
    const std::vector<double> rate = max_min(running, capacity);
    std::size_t ends = flows.size();
    for (std::size_t k = 0; k < running.size(); ++k) {
      const double t = now + left[index[k]] / rate[k];
      if (t <= next) next = t, ends = index[k];
    }
    for (std::size_t k = 0; k < running.size(); ++k) left[index[k]] -= rate[k] * (next - now);
    now = next;
    if (ends < flows.size()) end[ends] = now, ++done;
    for (const CapacityChange& c : changes) {
      if (c.at == now) capacity[c.link] = c.value;
    }
  }
  return end;
}

TEST(FlowNet, RandomFlowsOverRandomPathsAgreeWithProgressiveFilling) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random r(seed, "flow-net");
    std::vector<BytesPerSecond> nominal;
    std::vector<double> capacity;
    for (int l = 0; l < 6; ++l) {
      nominal.push_back(BytesPerSecond{static_cast<std::int64_t>(1 + r.below(50)) * 1'000'000'000});
      capacity.push_back(static_cast<double>(nominal.back().v));
    }
    std::vector<RandomFlow> flows;
    for (int f = 0; f < 20; ++f) {
      RandomFlow flow{
          static_cast<double>(r.below(1'000'000)) * 1e-6, static_cast<double>(1 + r.below(10'000'000'000)), {}};
      for (std::uint32_t l = 0; l < 6; ++l) {
        if (r.chance(0.35)) flow.links.push_back(l);
      }
      if (flow.links.empty()) flow.links.push_back(static_cast<std::uint32_t>(f % 6));
      flows.push_back(flow);
    }
    std::vector<CapacityChange> changes;
    for (int c = 0; c < 4; ++c) {
      const auto link = static_cast<std::uint32_t>(r.below(6));
      changes.push_back({static_cast<double>(1 + r.below(2'000'000)) * 1e-6, link,
                         std::floor(static_cast<double>(nominal[link].v) * (0.1 + 0.9 * r.uniform()))});
    }
    const std::string text = test::in_child([&] {
      Script s(nominal);
      for (std::size_t f = 0; f < flows.size(); ++f) {
        s.start(Instant{std::llround(flows[f].start * 1e9)}, static_cast<char>('a' + f), flows[f].links,
                Bytes{static_cast<std::int64_t>(flows[f].bytes)});
      }
      for (const CapacityChange& c : changes) {
        s.capacity(Instant{std::llround(c.at * 1e9)}, c.link, BytesPerSecond{static_cast<std::int64_t>(c.value)});
      }
      return s.run();
    });
    const std::vector<double> expected = expected_ends(flows, changes, capacity);
    std::map<char, std::int64_t> ended;
    std::istringstream words(text);
    for (std::string w; words >> w;) ended[w[0]] = std::stoll(w.substr(2));
    for (std::size_t f = 0; f < flows.size(); ++f) {
      // 3 ns: both sides sum doubles of seconds over up to 45 changes of rate.
      EXPECT_NEAR(static_cast<double>(ended[static_cast<char>('a' + f)]), expected[f] * 1e9, 3) << "flow " << f;
    }
  }
}

}  // namespace
}  // namespace faultline::sim

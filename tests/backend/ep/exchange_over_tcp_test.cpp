// The EP exchange between real processes over TcpTransport: equal to the single-process layer bit for bit, and a rank
// that is killed or stopped in the middle of a step leaves marked results, never a hang.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <new>
#include <thread>

#include "backend/ep/exchange.h"
#include "backend/ep/reference.h"
#include "backend/transport/tcp_transport.h"
#include "core/base/random.h"

namespace faultline::ep {
namespace {

using std::chrono::steady_clock;

constexpr std::uint32_t kRanks = 4;
constexpr std::uint64_t kSteps = 40;
constexpr std::uint64_t kFatalStep = 17;
constexpr std::uint32_t kVictim = 2;
constexpr RegionId kWindow{1};
constexpr std::size_t kBlobMax = 256;
constexpr int kNobody = 0;  // no signal

struct Blob {
  std::array<std::byte, kBlobMax> bytes;
  std::size_t size;
  void set(const std::vector<std::byte>& from) {
    size = std::min(from.size(), kBlobMax);
    std::copy_n(from.begin(), size, bytes.begin());
  }
  std::span<const std::byte> get() const { return {bytes.data(), size}; }
};

/// What the processes tell each other and the test; in memory that all share.
struct Table {
  struct Rank {
    Blob address, window;
    std::atomic<std::uint32_t> stage;  // 1: address and window are there, 2: connected, 3: all steps ended
    std::atomic<std::uint64_t> steps, whole, marked;
    std::atomic<std::uint64_t> wrong;      // tokens that differ, or are marked without need, or not marked
    std::atomic<std::int64_t> longest_ms;  // step
    std::atomic<std::uint64_t> dead;
  };
  std::array<Rank, kRanks> ranks;
};

Instant now() {
  return {std::chrono::duration_cast<std::chrono::nanoseconds>(steady_clock::now().time_since_epoch()).count()};
}

std::vector<float> compute(std::span<const std::pair<std::uint32_t, float>> experts, std::span<const float> value) {
  std::vector<float> out(value.size(), 0.0F);
  for (const auto& [expert, weight] : experts) {
    for (std::size_t h = 0; h < value.size(); ++h)
      out[h] += weight * (value[h] * (1.0F + 0.1F * static_cast<float>(expert)));
  }
  return out;
}

struct Case {
  Variant variant;
  int signal;               // to the victim, by itself, in the middle of kFatalStep
  Duration wait_max;        // of the exchange
  Duration failure_budget;  // of the transport
};

/// A rank's process.
class Rank {
 public:
  Rank(const Case& c, std::uint32_t self, Table& table)
      : case_(c), self_(self), table_(table), transport_(settings(c)) {
    s_ = {.ranks = kRanks,
          .ranks_per_node = 2,
          .rank = self,
          .experts = 16,
          .topk = 3,
          .hidden = 32,
          .tokens_max = 24,
          .variant = c.variant,
          .wait_max = c.wait_max};
    window_.resize(Exchange::window_bytes(s_));
  }

  [[noreturn]] void live() {
    if (!connect()) ::_exit(2);
    mine().stage = 2;
    wait_for([&] { return all(2); });
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      const auto start = steady_clock::now();
      if (!run(step)) ::_exit(3);
      const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() - start).count();
      mine().longest_ms = std::max<std::int64_t>(mine().longest_ms, took);
      ++mine().steps;
    }
    mine().dead = exchange_->dead();
    mine().stage = 3;
    wait_for([&] { return all(3); });  // the end of a transport would be the death of a rank
    ::_exit(0);
  }

 private:
  static transport::TcpSettings settings(const Case& c) {
    transport::TcpSettings tcp;
    tcp.secret = "ep";
    tcp.same_host_path = false;
    tcp.failure_budget = c.failure_budget;
    tcp.connect_timeout = Duration{30'000'000'000};
    return tcp;
  }
  Table::Rank& mine() { return table_.ranks[self_]; }
  /// Every rank that is not the victim has come so far.
  bool all(std::uint32_t stage) const {
    for (std::uint32_t r = 0; r < kRanks; ++r) {
      const bool excused = stage == 3 && case_.signal != kNobody && r == kVictim;
      if (!excused && table_.ranks[r].stage < stage) return false;
    }
    return true;
  }
  template <class Done>
  bool wait_for(const Done& done) {
    const auto end = steady_clock::now() + std::chrono::seconds(60);
    while (!done()) {
      if (steady_clock::now() > end) return false;
      std::array<TransportEvent, 32> events;
      const std::size_t count = transport_.poll(events);
      for (std::size_t i = 0; i < count; ++i) {
        if (std::holds_alternative<EndpointUp>(events[i])) ++up_;
        if (exchange_) exchange_->handle(events[i], now());
      }
      if (exchange_) exchange_->tick(now());
      if (count == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    return true;
  }
  bool connect() {
    if (!transport_.register_memory(kWindow, window_)) return false;
    mine().address.set(transport_.local_address());
    mine().window.set(transport_.export_region(kWindow));
    mine().stage = 1;
    if (!wait_for([&] { return all(1); })) return false;
    std::vector<EndpointId> peers(kRanks);
    std::vector<RegionId> windows(kRanks);
    for (std::uint32_t r = 0; r < kRanks; ++r) {
      if (r == self_) continue;
      peers[r] = EndpointId{r};
      windows[r] = RegionId{100 + r};
      if (!transport_.open(peers[r], table_.ranks[r].address.get()) ||
          !transport_.import_region(windows[r], peers[r], table_.ranks[r].window.get()))
        return false;
    }
    if (!wait_for([&] { return up_ == kRanks - 1; })) return false;
    exchange_ =
        std::make_unique<Exchange>(s_, transport_, window_, kWindow, peers, windows, [this] { return OpId{++ops_}; });
    return true;
  }

  bool run(std::uint64_t step) {
    Random r(11, "test/ep-tcp", self_, step);
    std::vector<float> values, weights;
    std::vector<std::uint32_t> experts;
    for (std::uint64_t t = r.below(s_.tokens_max + 1); t > 0; --t) {
      const auto first = static_cast<std::uint32_t>(r.below(s_.experts));
      for (std::uint32_t k = 0; k < s_.topk; ++k) {
        experts.push_back((first + k * 5) % s_.experts);
        weights.push_back(static_cast<float>(r.uniform()));
      }
      for (std::uint32_t h = 0; h < s_.hidden; ++h) values.push_back(static_cast<float>(r.normal()));
    }
    exchange_->dispatch(now(), values, experts, weights);
    if (self_ == kVictim && step == kFatalStep && case_.signal != kNobody) ::kill(::getpid(), case_.signal);
    if (!wait_for([&] { return exchange_->dispatched(); })) return false;
    std::vector<float> results;
    for (const Arrival& arrival : exchange_->arrivals()) {
      const auto part = compute(arrival.experts, arrival.value);
      results.insert(results.end(), part.begin(), part.end());
    }
    exchange_->combine(now(), results);
    if (!wait_for([&] { return exchange_->combined(); })) return false;
    check(step, values, experts, weights);
    return true;
  }

  void check(std::uint64_t step, std::span<const float> values, std::span<const std::uint32_t> experts,
             std::span<const float> weights) {
    const Combined& result = exchange_->result();
    const auto expected = reference_moe(kRanks, s_.experts, s_.topk, s_.hidden, values, experts, weights, compute);
    if (result.value.size() != expected.size()) ++mine().wrong;
    for (std::size_t t = 0; t < result.whole.size(); ++t) {
      bool needs_dead = false;
      for (std::uint32_t k = 0; k < s_.topk; ++k)
        needs_dead = needs_dead || (result.dead >> (experts[t * s_.topk + k] * kRanks / s_.experts) & 1) != 0;
      const auto at = static_cast<std::ptrdiff_t>(t * s_.hidden);
      const bool equal =
          std::equal(expected.begin() + at, expected.begin() + at + s_.hidden, result.value.begin() + at);
      if (result.whole[t]) {
        ++mine().whole;
        // Before its fatal step the victim's results may have come before its death was known.
        if (!equal || (needs_dead && step >= kFatalStep)) ++mine().wrong;
      } else {
        ++mine().marked;
        // In the fatal step a token may be lost with the rank that should have passed it on before anybody knows of it.
        if (result.dead == 0 && step != kFatalStep) ++mine().wrong;
      }
    }
  }

  Case case_;
  std::uint32_t self_;
  Table& table_;
  ExchangeSettings s_;
  std::vector<std::byte> window_;
  transport::TcpTransport transport_;
  std::unique_ptr<Exchange> exchange_;
  std::uint32_t up_ = 0;
  std::uint64_t ops_ = 0;
};

/// Runs the ranks; the table is theirs.
std::unique_ptr<Table, void (*)(Table*)> run_ranks(const Case& c) {
  void* at = ::mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  std::unique_ptr<Table, void (*)(Table*)> table(new (at) Table{}, [](Table* t) { ::munmap(t, sizeof(Table)); });
  std::array<pid_t, kRanks> pids{};
  for (std::uint32_t r = 0; r < kRanks; ++r) {
    pids[r] = ::fork();
    if (pids[r] != 0) continue;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    Rank(c, r, *table).live();
  }
  for (std::uint32_t r = 0; r < kRanks; ++r) {
    const bool victim = r == kVictim && c.signal != kNobody;
    if (victim) continue;
    int status = 0;
    ::waitpid(pids[r], &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "rank " << r << " ended with " << status;
  }
  if (c.signal != kNobody) {
    ::kill(pids[kVictim], SIGKILL);
    ::waitpid(pids[kVictim], nullptr, 0);
  }
  return table;
}

class EpOverTcp : public ::testing::TestWithParam<Variant> {
 protected:
  static void expect_survivors(const Table& table, std::uint64_t dead) {
    std::uint64_t whole = 0, marked = 0;
    for (std::uint32_t r = 0; r < kRanks; ++r) {
      if ((dead >> r & 1) != 0) continue;
      const Table::Rank& rank = table.ranks[r];
      EXPECT_EQ(rank.steps, kSteps) << "rank " << r;
      EXPECT_EQ(rank.wrong, 0U) << "rank " << r;
      EXPECT_EQ(rank.dead, dead) << "rank " << r << ": nobody else is blamed";
      whole += rank.whole;
      marked += rank.marked;
    }
    EXPECT_GT(whole, 0U);
    EXPECT_EQ(marked > 0, dead != 0);
  }
};
INSTANTIATE_TEST_SUITE_P(Variants, EpOverTcp, ::testing::Values(Variant::low_latency, Variant::high_throughput),
                         [](const auto& variant) {
                           return variant.param == Variant::low_latency ? "LowLatency" : "HighThroughput";
                         });

TEST_P(EpOverTcp, EqualsTheSingleProcessLayerBitForBit) {
  expect_survivors(*run_ranks({GetParam(), kNobody, Duration{30'000'000'000}, Duration{30'000'000'000}}), 0);
}

TEST_P(EpOverTcp, AKilledRankIsToldByItsConnectionsAndLeavesMarkedTokens) {
  // The wait is longer than the test: only the end of the connections can have told.
  const Case c{GetParam(), SIGKILL, Duration{50'000'000'000}, Duration{50'000'000'000}};
  const auto table = run_ranks(c);
  expect_survivors(*table, 1U << kVictim);
  for (std::uint32_t r = 0; r < kRanks; ++r) {
    if (r == kVictim) continue;
    EXPECT_LT(table->ranks[r].longest_ms, 25'000) << "rank " << r << " waited for the dead one";
  }
}

TEST_P(EpOverTcp, AStoppedRankCostsTheBoundedWaitAndLeavesMarkedTokens) {
  // The transport would notice in 50 s: only the exchange's own wait can have told.
  const Case c{GetParam(), SIGSTOP, Duration{3'000'000'000}, Duration{50'000'000'000}};
  const auto table = run_ranks(c);
  expect_survivors(*table, 1U << kVictim);
  for (std::uint32_t r = 0; r < kRanks; ++r) {
    if (r == kVictim) continue;
    EXPECT_GE(table->ranks[r].longest_ms, 2'900) << "rank " << r << " did not wait";
  }
}

}  // namespace
}  // namespace faultline::ep

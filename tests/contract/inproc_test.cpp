// The contract suites on the in-process implementations, in virtual time; clocks and the paced executor also in real
// time.
#include <thread>

#include "backend/inproc/clocks.h"
#include "backend/inproc/inproc_messenger.h"
#include "backend/inproc/paced_executor.h"
#include "tests/contract/clock_contract.h"
#include "tests/contract/executor_contract.h"
#include "tests/contract/inproc_world.h"
#include "tests/contract/messenger_contract.h"

namespace faultline::contract {
namespace {

// ---- clocks
// -----------------------------------------------------------------------------------------------------------

class ManualClockWorld final : public ClockWorld {
 public:
  Clock& clock() override { return clock_; }
  void pass_until(Instant t) override { clock_.advance_to(std::max(t, clock_.now())); }

 private:
  inproc::ManualClock clock_;
};

class SteadyClockWorld final : public ClockWorld {
 public:
  Clock& clock() override { return clock_; }
  void pass_until(Instant t) override {
    while (clock_.now() < t) std::this_thread::sleep_for(std::chrono::nanoseconds((t - clock_.now()).v));
  }

 private:
  inproc::SteadyClock clock_;
};

// ---- messenger
// --------------------------------------------------------------------------------------------------------

class InprocMessengerWorld final : public MessengerWorld {
 public:
  InprocMessengerWorld() {
    for (int i = 0; i < 3; ++i) restart(i);
  }
  Messenger& member(int i) override { return *members_[static_cast<std::size_t>(i)]; }
  Address address(int i) override { return {i == 0 ? Role::router : Role::instance, static_cast<std::uint32_t>(i)}; }
  void kill(int i) override { members_[static_cast<std::size_t>(i)].reset(); }
  void restart(int i) override {
    members_[static_cast<std::size_t>(i)] = std::make_unique<inproc::InprocMessenger>(board_, address(i));
  }
  bool alive(int i) override { return members_[static_cast<std::size_t>(i)] != nullptr; }
  void break_route(int a, int b) override { board_.break_route(address(a), address(b)); }
  void mend_route(int a, int b) override { board_.mend_route(address(a), address(b)); }
  bool run_until(const std::function<bool()>& done, Duration budget) override {
    return run_virtual(clock_, done, budget, [this] { return board_.next_due(); });
  }
  Instant now() override { return clock_.now(); }
  // A heartbeat may have come just before the silence began.
  Duration loss_budget() override {
    return board_.settings().net.heartbeat * board_.settings().net.lost_after + board_.settings().net.latency;
  }
  std::size_t message_bytes_max() override { return board_.limits().message_bytes_max; }
  std::size_t queue_messages_max() override { return board_.limits().queue_messages_max; }

 private:
  inproc::ManualClock clock_;
  inproc::Switchboard board_{clock_};
  std::array<std::unique_ptr<inproc::InprocMessenger>, 3> members_;
};

// ---- executor
// ---------------------------------------------------------------------------------------------------------

template <class ClockType>
class PacedExecutorWorld final : public TwoRankExecutorWorld {
 public:
  Executor& executor() override { return executor_; }
  void fail_device() override { executor_.fail_device(); }
  bool run_until(const std::function<bool()>& done, Duration budget) override {
    if constexpr (std::is_same_v<ClockType, inproc::ManualClock>) {
      // A run may end only after hours of virtual time, so time goes in steps.
      const Instant end = clock_.now() + budget;
      while (!done()) {
        if (clock_.now() >= end) return false;
        clock_.advance(Duration{500'000});
      }
      return true;
    } else {
      const Instant end = clock_.now() + budget;
      while (!done()) {
        if (clock_.now() >= end) return false;
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
      return true;
    }
  }
  Instant now() override { return clock_.now(); }

 private:
  ClockType clock_;
  inproc::PacedExecutor executor_{
      clock_,
      {.prefill = [](const PrefillStep& step) { return Duration{10'000} * step.items[0].chunk_tokens; },
       .decode = [](const DecodeRun&, std::int64_t step) { return Duration{1'000'000 + 10 * step}; },
       .dp_ranks = 2}};
};

template <class World>
auto maker() {
  return [] { return std::make_unique<World>(); };
}

const bool kRegistered =
    register_contract<ClockWorld>("Clock", {.name = "Manual", .make = maker<ManualClockWorld>(), .missing = {}},
                                  clock_clauses()) &&
    register_contract<ClockWorld>("Clock", {.name = "Steady", .make = maker<SteadyClockWorld>(), .missing = {}},
                                  clock_clauses()) &&
    register_contract<MessengerWorld>(
        "Messenger", {.name = "Inproc", .make = maker<InprocMessengerWorld>(), .missing = {}}, messenger_clauses()) &&
    register_contract<ExecutorWorld>(
        "Executor", {.name = "Paced", .make = maker<PacedExecutorWorld<inproc::ManualClock>>(), .missing = {}},
        executor_clauses()) &&
    register_contract<ExecutorWorld>(
        "Executor", {.name = "PacedRealTime", .make = maker<PacedExecutorWorld<inproc::SteadyClock>>(), .missing = {}},
        executor_clauses()) &&
    register_contract<TransportWorld>("Transport", {.name = "Inproc", .make = maker<InprocWorld>(), .missing = {}},
                                      transport_clauses()) &&
    // The path through a child process, which single-instance engines need, is exercised by the same suite.
    register_contract<TransportWorld>(
        "Transport", {.name = "InprocInChild", .make = maker<InprocWorld>(), .missing = {}, .own_process = true},
        transport_clauses());

}  // namespace
}  // namespace faultline::contract

// The Messenger contract on the simulated messenger; and what its world relies on beyond the port: members of one host.
#include "sim/ports/sim_messenger.h"

#include "sim/ports/sim_clock.h"
#include "tests/contract/messenger_contract.h"

namespace faultline {
namespace {

class SimMessengerWorld final : public contract::MessengerWorld {
 public:
  SimMessengerWorld() {
    for (int i = 0; i < 3; ++i) restart(i);
  }
  Messenger& member(int i) override { return *members_[static_cast<std::size_t>(i)]; }
  Address address(int i) override { return {i == 0 ? Role::router : Role::instance, static_cast<std::uint32_t>(i)}; }
  void kill(int i) override { members_[static_cast<std::size_t>(i)].reset(); }
  void restart(int i) override {
    members_[static_cast<std::size_t>(i)] = std::make_unique<sim::SimMessenger>(board_, address(i));
  }
  bool alive(int i) override { return members_[static_cast<std::size_t>(i)] != nullptr; }
  void break_route(int a, int b) override { board_.break_route(address(a), address(b)); }
  void mend_route(int a, int b) override { board_.mend_route(address(a), address(b)); }
  bool run_until(const std::function<bool()>& done, Duration budget) override {
    const Instant end = clock_.now() + budget;
    while (!done()) {
      if (clock_.now() >= end) return false;
      Instant next = std::min(end, clock_.now() + Duration{10'000'000});
      if (!queue_.empty()) next = std::min(next, queue_.top().at);
      clock_.advance_to(next);
      while (!queue_.empty() && queue_.top().at <= next) board_.due(queue_.pop());
    }
    return true;
  }
  Instant now() override { return clock_.now(); }
  Duration loss_budget() override { return kSettings.heartbeat * kSettings.lost_after + kSettings.latency; }
  std::size_t message_bytes_max() override { return board_.limits().message_bytes_max; }
  std::size_t queue_messages_max() override { return board_.limits().queue_messages_max; }

 private:
  static constexpr ports::MessageNetSettings kSettings{
      .latency = {50'000}, .heartbeat = {1'000'000'000}, .suspected_after = 2, .lost_after = 3, .seed = 5};
  sim::SimClock clock_;
  sim::EventQueue queue_;
  sim::SimMessageBoard board_{clock_, queue_, 0, kSettings};
  std::array<std::unique_ptr<sim::SimMessenger>, 3> members_;
};

const bool kRegistered = contract::register_contract<contract::MessengerWorld>(
    "Messenger", {.name = "Simulated", .make = [] { return std::make_unique<SimMessengerWorld>(); }, .missing = {}},
    contract::messenger_clauses());

}  // namespace
}  // namespace faultline

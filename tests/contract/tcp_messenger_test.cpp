// The Messenger contract on TcpMessenger, through relays that can fall silent. Real time: only ends are asserted, with
// the slack of a busy machine.
#include "backend/messenger/tcp_messenger.h"

#include <thread>

#include "backend/inproc/clocks.h"
#include "tests/contract/messenger_contract.h"
#include "tests/contract/relay.h"

namespace faultline::contract {
namespace {

using messenger::TcpMessenger;
using messenger::TcpMessengerSettings;

class TcpMessengerWorld final : public MessengerWorld {
 public:
  TcpMessengerWorld() {
    for (int i = 0; i < 3; ++i) restart(i);
  }
  Messenger& member(int i) override { return *members_[at(i)]; }
  Address address(int i) override { return {i == 0 ? Role::router : Role::instance, static_cast<std::uint32_t>(i)}; }
  void kill(int i) override { members_[at(i)].reset(); }
  void restart(int i) override {
    members_[at(i)] = std::make_unique<TcpMessenger>(settings(i));
    for (std::size_t from = 0; from < 3; ++from) relays_[from][at(i)].forward_to(members_[at(i)]->port());
  }
  bool alive(int i) override { return members_[at(i)] != nullptr; }
  void break_route(int a, int b) override { open_route(a, b, false); }
  void mend_route(int a, int b) override { open_route(a, b, true); }
  bool run_until(const std::function<bool()>& done, Duration budget) override {
    const Instant end = clock_.now() + budget;
    while (!done()) {
      if (clock_.now() >= end) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return true;
  }
  Instant now() override { return clock_.now(); }
  Duration loss_budget() override { return kLost; }
  std::size_t message_bytes_max() override { return 1 << 20; }
  std::size_t queue_messages_max() override { return 512; }
  Duration slack() const override { return Duration{2'000'000'000}; }

 private:
  static constexpr Duration kLost{500'000'000};  // a thread of a busy machine may not run for some 100 ms
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  void open_route(int a, int b, bool open) {
    relays_[at(a)][at(b)].set_open(open);
    relays_[at(b)][at(a)].set_open(open);
  }
  TcpMessengerSettings settings(int i) {
    TcpMessengerSettings s;
    s.self = address(i);
    s.incarnation = ++incarnations_;
    s.secret = "contract";
    s.find = [this, i](Address peer) -> std::optional<messenger::Endpoint> {
      for (int k = 0; k < 3; ++k) {
        if (address(k) == peer && k != i) return messenger::Endpoint{"127.0.0.1", relays_[at(i)][at(k)].port()};
      }
      return std::nullopt;
    };
    s.heartbeat = Duration{50'000'000};
    s.suspect_after = Duration{300'000'000};
    s.lost_after = kLost;
    s.queue_messages_max = queue_messages_max();
    return s;
  }

  inproc::SteadyClock clock_;
  std::uint64_t incarnations_ = 0;
  std::array<std::array<Relay, 3>, 3> relays_;  // [from][to]
  std::array<std::unique_ptr<TcpMessenger>, 3> members_;
};

const bool kRegistered = register_contract<MessengerWorld>(
    "Messenger", {.name = "Tcp", .make = [] { return std::make_unique<TcpMessengerWorld>(); }, .missing = {}},
    messenger_clauses());

}  // namespace
}  // namespace faultline::contract

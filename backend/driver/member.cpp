#include "backend/driver/member.h"

#include <signal.h>

#include <csignal>
#include <ctime>
#include <thread>

#include "backend/driver/node_member.h"
#include "core/base/assert.h"
#include "core/control/fleet.h"
#include "core/control/router.h"

namespace faultline::live {
namespace {

using std::chrono::steady_clock;

volatile std::sig_atomic_t stop_asked = 0;

/// Signals interrupt only the wait: nothing is cut in the middle.
void hold_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { stop_asked = 1; };
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t held;
  ::sigemptyset(&held);
  ::sigaddset(&held, SIGTERM);
  ::sigaddset(&held, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &held, nullptr);
}

/// The port may be held a moment longer by a process that is being killed.
std::unique_ptr<messenger::TcpMessenger> listen(const messenger::TcpMessengerSettings& settings) {
  for (int tries = 0;; ++tries) {
    try {
      return std::make_unique<messenger::TcpMessenger>(settings);
    } catch (const std::runtime_error&) {
      if (tries == 1000) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

}  // namespace

Member::Member(const Cluster& cluster, Address self, std::uint32_t incarnation,
               std::unique_ptr<control::Controller> controller)
    : cluster_(cluster),
      self_(self),
      incarnation_(incarnation),
      controller_(std::move(controller)),
      clock_(cluster.settings().speed),
      log_(cluster.settings().out + "/logs/" + log_name(self, incarnation), cluster.settings().experiment) {
  hold_signals();
  messenger_ = listen(cluster.messenger_settings(self, std::uint64_t{incarnation} + 1, clock_));
  set_ready(Ready::listening);
}

void Member::run() {
  while (stop_asked == 0 && board().over.load() == 0) {
    if (!prepared_ && board().go.load() != 0 && prepare()) {
      prepared_ = true;
      set_ready(Ready::serving);
    }
    if (const std::int64_t begin = board().begin_ns.load(); !begun_ && begin != 0) {
      const steady_clock::time_point at{std::chrono::nanoseconds(begin)};
      clock_.set_begin(at);
      messenger_->set_beat_base(at);
      if (steady_clock::now() >= at) {
        begun_ = true;
        dispatch(control::Started{});
      }
    }
    work();
    take_local();
    if (begun_) take_timers();
    take_local();
    take_messages();
    take_local();
    if (stop_asked == 0) wait();
  }
}

void Member::wait() {
  std::vector<pollfd> fds{{messenger_->event_descriptor(), POLLIN, 0}};
  add_descriptors(fds);
  auto until = std::min(next_work(), clock_.real(clock_.next_timer()));
  // The board has no descriptor: what is awaited there is asked for again and again.
  if (!begun_ || !prepared_) until = std::min(until, steady_clock::now() + std::chrono::milliseconds(2));
  const auto left = std::min<std::chrono::nanoseconds>(until - steady_clock::now(), std::chrono::seconds(1));
  timespec timeout{};
  if (left.count() > 0) timeout = {left.count() / 1'000'000'000, left.count() % 1'000'000'000};
  sigset_t none;
  ::sigemptyset(&none);
  ::ppoll(fds.data(), fds.size(), &timeout, &none);
}

void Member::take_timers() {
  TimerKey key = 0;
  while (clock_.poll({&key, 1}) > 0) dispatch(control::TimerFired{key});
}

void Member::take_local() {
  while (begun_ && !local_.empty()) {
    const control::Event event = std::move(local_.front());
    local_.pop_front();
    dispatch(event);
  }
}

void Member::take_messages() {
  using control::PeerChanged;
  std::array<MessengerEvent, 32> events;
  const std::size_t count = messenger_->poll(events);
  if (board().over.load() != 0) return;  // asked after the poll: nobody ends before it says so
  for (std::size_t i = 0; i < count; ++i) {
    MessengerEvent& e = events[i];
    if (auto* message = std::get_if<MessageReceived>(&e)) {
      const std::string_view bytes(reinterpret_cast<const char*>(message->payload.data()), message->payload.size());
      auto packet = decode_packet(bytes);
      if (!packet) throw std::runtime_error("a packet that no process of this version sends");
      if (auto* control = std::get_if<Control>(&*packet))
        post(control::Received{message->from, std::move(control->message)});
      else this->packet(message->from, *packet);
    } else if (const auto* suspected = std::get_if<PeerSuspected>(&e)) {
      post(PeerChanged{suspected->peer, PeerChanged::To::suspected, Cause::timeout});
    } else if (const auto* lost = std::get_if<PeerLost>(&e)) {
      post(PeerChanged{lost->peer, PeerChanged::To::lost, lost->cause});
    } else if (const auto* back = std::get_if<PeerBack>(&e)) {
      post(PeerChanged{back->peer, PeerChanged::To::back, Cause::none});
    }
    take_local();
  }
}

void Member::dispatch(const control::Event& event) {
  commands_.clear();
  now_ = std::max(now_, clock_.now());
  controller_->step(now_, event, commands_);
  log_.append(now_, self_, incarnation_, event, commands_, controller_->digest());
  for (control::Command& c : commands_) carry_out(c);
}

void Member::carry_out(control::Command& command) {
  std::visit(
      [&](auto& c) {
        using C = std::decay_t<decltype(c)>;
        if constexpr (std::is_same_v<C, control::Send>) send(c.to, Control{std::move(c.message)});
        else if constexpr (std::is_same_v<C, control::ArmTimer>) clock_.arm(c.key, c.deadline);
        else if constexpr (std::is_same_v<C, control::DisarmTimer>) clock_.disarm(c.key);
        else if constexpr (std::is_same_v<C, control::Watch>) messenger_->watch(c.peer);
        else if constexpr (std::is_same_v<C, control::Unwatch>) messenger_->unwatch(c.peer);
        else if constexpr (std::is_same_v<C, control::NoteFirstToken> || std::is_same_v<C, control::NoteRequestEnded> ||
                           std::is_same_v<C, control::NoteAttemptLost> || std::is_same_v<C, control::NoteAttempt> ||
                           std::is_same_v<C, control::NotePhase>)
          noted(command);
        else execute(command);
      },
      command);
}

void Member::send(Address to, const Packet& packet) {
  const std::string bytes = encode(packet);
  const Status sent = messenger_->send(to, std::as_bytes(std::span(bytes.data(), bytes.size())));
  // A message to a lost peer vanishes, as in every world; who watches it has been told.
  if (!sent && sent.cause() != Cause::peer_lost) {
    throw std::runtime_error(fmt::format("a peer (member {}) does not take its messages: {}", cluster_.member_of(to),
                                         name_of(sent.cause())));
  }
}

namespace {

class RouterMember final : public Member {
 public:
  RouterMember(const Cluster& c, Address self, std::uint32_t incarnation)
      : Member(c, self, incarnation, controller(c, self)) {}

 private:
  static std::unique_ptr<control::Controller> controller(const Cluster& c, Address self) {
    control::RouterSetup setup = c.deployment().router;
    setup.index = self.index;
    return std::make_unique<control::Router>(setup);
  }
  void packet(Address, Packet& p) override {
    if (auto* request = std::get_if<Request>(&p)) post(request->request);
  }
  void noted(const control::Command& command) override {
    if (const auto* ended = std::get_if<control::NoteRequestEnded>(&command)) {
      send({Role::client, 0}, Answer{ended->request, ended->cause, ended->rejected, ended->delivered});
    }
  }
};

class FleetMember final : public Member {
 public:
  FleetMember(const Cluster& c, Address self, std::uint32_t incarnation)
      : Member(c, self, incarnation, std::make_unique<control::FleetManager>([&] {
                 control::FleetSetup setup = c.deployment().fleet;
                 setup.term = incarnation;  // one that is started again asks what became of the fleet
                 return setup;
               }())) {}
};

class LeaderMember final : public Member {
 public:
  LeaderMember(const Cluster& c, Address self, std::uint32_t incarnation)
      : Member(c, self, incarnation, controller(c, self, incarnation)) {}

 private:
  static std::unique_ptr<control::Controller> controller(const Cluster& c, Address self, std::uint32_t incarnation) {
    control::InstanceSetup setup = c.deployment().instances[self.index];
    if (incarnation > 0) setup.up = false;  // it waits for its groups, as core/experiment/replay.cpp knows
    return std::make_unique<control::InstanceController>(std::move(setup));
  }
  /// It serves once the fleet manager can tell it of its groups.
  bool prepare() override { return messenger().watched_by({Role::fleet, 0}) || board().begin_ns.load() == 0; }
};

}  // namespace

int run_member(Address self, std::uint32_t incarnation, const config::FileReader& reader) {
  const Cluster cluster = inherited_cluster(reader);
  FAULTLINE_ASSERT(cluster.address_of(cluster.member_of(self)) == self, "role={} index={}", static_cast<int>(self.role),
                   self.index);
  switch (self.role) {
    case Role::router: RouterMember(cluster, self, incarnation).run(); break;
    case Role::fleet: FleetMember(cluster, self, incarnation).run(); break;
    case Role::instance: LeaderMember(cluster, self, incarnation).run(); break;
    case Role::node: NodeMember(cluster, self, incarnation).run(); break;
    case Role::client: break;
  }
  return 0;
}

}  // namespace faultline::live

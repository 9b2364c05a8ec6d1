// The live driver of one controller: one process, one control thread, the messenger's progress thread. The controller
// is the same object code that the simulator runs; nothing here or there asks which world it is.
//
// The control thread takes, one after another: timers, answers of its own ports, packets of peers, peers lost and back.
// For each it steps the controller, writes event, commands and digest to its log, and only then carries the commands
// out.
//
// The inbox is bounded: the messenger holds at most 4,096 packets of each peer that were not taken yet, and a sender is
// refused more. A process that is refused ends with an error: its peers see its connections reset, which is a loss that
// they handle, while a command that silently went nowhere would be none that anybody does. What own ports answer is
// bounded by what they were asked.
#pragma once

#include <poll.h>

#include <deque>
#include <memory>
#include <vector>

#include "backend/driver/cluster.h"
#include "backend/driver/log_file.h"
#include "backend/driver/wire.h"
#include "core/control/controller.h"

namespace faultline::live {

class Member {
 public:
  /// `incarnation`: 0 for the first process of this member.
  Member(const Cluster& cluster, Address self, std::uint32_t incarnation,
         std::unique_ptr<control::Controller> controller);
  virtual ~Member() = default;
  /// Until SIGTERM. Throws for what makes it impossible to go on.
  void run();

 protected:
  // What a role adds. Nothing here is called from inside another of them.
  /// A command that is not about messages, timers or notes.
  virtual void execute(control::Command&) {}
  virtual void noted(const control::Command&) {}
  virtual void packet(Address, Packet&) {}
  /// Everybody listens: processes of the beginning may be started. True once they all serve.
  virtual bool prepare() { return true; }
  virtual void add_descriptors(std::vector<pollfd>&) {}
  /// After each wait: ports may have events, times may have come.
  virtual void work() {}
  /// When work() is wanted at the latest.
  virtual LiveClock::Time next_work() const { return LiveClock::Time::max(); }

  void send(Address to, const Packet& packet);
  /// An answer of an own port: the controller hears it next.
  void post(control::Event event) { local_.push_back(std::move(event)); }
  Instant now() const { return clock_.now(); }
  bool begun() const { return begun_; }
  const Cluster& cluster() const { return cluster_; }
  Board& board() const { return cluster_.board(); }
  Address self() const { return self_; }
  const LiveClock& clock() const { return clock_; }
  messenger::TcpMessenger& messenger() { return *messenger_; }

 private:
  void dispatch(const control::Event& event);
  void carry_out(control::Command& command);
  void take_messages();
  void take_timers();
  void take_local();
  void wait();
  void set_ready(Ready ready) { board().ready[cluster_.member_of(self_)] = ready; }

  const Cluster& cluster_;
  Address self_;
  std::uint32_t incarnation_;
  std::unique_ptr<control::Controller> controller_;
  LiveClock clock_;
  std::unique_ptr<messenger::TcpMessenger> messenger_;
  LogFile log_;
  Instant now_{0};
  bool begun_ = false, prepared_ = false;
  std::deque<control::Event> local_;
  control::Commands commands_;
};

/// Runs the member `self` of the cluster that this process inherited. The exit status.
int run_member(Address self, std::uint32_t incarnation, const config::FileReader& reader);

}  // namespace faultline::live

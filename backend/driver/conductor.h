// The conductor of a live run on one host: starts the cluster's processes, sends the trace as their clients would,
// makes faults true with real signals, starts again what the experiment says comes back by itself (routers, repaired
// nodes), and ends everything. It is the operator's hand and the clients; it takes no decision of the control plane.
//
//   gpu.failstop   SIGKILL to the worker process that holds the rank; the GPU stays dead for starts and probes
//   gpu.hang       SIGSTOP to it; its next start ends the hang
//   node.crash     SIGSTOP to all processes of the node, so that it is silent as a dead host is, then SIGKILL once
//   every peer
//                  has had the time to notice (a kill alone would have the kernel reset its connections at once)
//   router.crash   SIGKILL
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "backend/driver/cluster.h"
#include "backend/driver/wire.h"
#include "core/fault/actuator.h"
#include "core/record/truth_log.h"
#include "core/workload/spec.h"

namespace faultline::live {

struct LiveOptions {
  std::string program;  // path of this binary
  std::string out;      // folder; exists
  double speed = 1;
  std::int64_t scale = 1000;
  /// About ten times a second; false ends the run, what it did is kept.
  std::function<bool(Instant now, std::uint64_t arrived, std::uint64_t done)> progress;
};

/// What the conductor saw; the rest is in the processes' logs.
struct LiveRun {
  struct Arrival {
    Instant at;
    control::RequestArrived request;
  };
  struct FaultChange {
    Instant at;
    std::uint32_t fault = 0;
    bool active = false;
    Cause cause = Cause::none;
  };
  struct LostRequest {
    Instant at;
    RequestId request;
  };
  std::vector<Arrival> arrivals;  // by id
  std::vector<FaultChange> changes;
  std::vector<LostRequest> lost;  // with their router
  std::string truth;              // lines of truth.jsonl
  Instant end{0};
  bool interrupted = false;
  double wall_s = 0;
  double cpu_s = 0;             // of the conductor and of every process that was waited for
  std::uint64_t processes = 0;  // routers, fleet manager, node agents; restarted ones count again
  std::uint64_t exchanges = 0, exchanges_wrong = 0, kv_pushes = 0, kv_bytes = 0, kv_wrong = 0;
};

class Conductor final : public fault::FaultActuator {
 public:
  /// Throws config::ConfigError for what a live run cannot do: kinds of fault, triggers, restart units.
  Conductor(const experiment::ExperimentSpec& spec, const std::string& resolved, const LiveOptions& options,
            const config::FileReader& reader);
  ~Conductor() override;
  /// Throws std::runtime_error when a process cannot be started or ends by itself.
  LiveRun run();

  fault::Support supports(const fault::ScheduledFault& fault) const override;
  Status apply(const fault::ScheduledFault& fault, Instant now) override;
  Status revert(const fault::ScheduledFault& fault, Instant now) override;

  const Cluster& cluster() const { return *cluster_; }

 private:
  using Time = LiveClock::Time;
  struct Process {
    Address who;
    pid_t pid = 0;  // 0 = not running
    bool stopped = false;
  };
  void start(Address who);
  void start_all();
  void wait_for(Ready ready, const char* what);
  void stop_all();
  void end_process(Process& process, int signal);
  void reap(bool expected);
  void loop();
  void take_answers();
  void arrive();
  void lose_router(std::uint32_t router);
  void change(std::uint32_t fault, bool active);
  void crash_node(std::uint32_t node);
  void bury_node(std::uint32_t node);
  void signal_workers(std::uint32_t node, std::uint32_t gpu, int signal);
  void at(Instant t, std::function<void()> what) { due_.emplace(std::pair{t, ++sequence_}, std::move(what)); }

  LiveOptions options_;
  const config::FileReader& reader_;
  Board* board_;
  transport::Fd settings_fd_, board_fd_;
  std::unique_ptr<Cluster> cluster_;
  LiveClock clock_;
  std::unique_ptr<messenger::TcpMessenger> messenger_;
  std::unique_ptr<workload::ArrivalSource> source_;
  std::map<Address, Process> processes_;  // routers, fleet manager, agents
  std::map<std::pair<Instant, std::uint64_t>, std::function<void()>> due_;
  std::uint64_t sequence_ = 0;
  workload::Arrival next_;
  bool more_ = false;
  std::map<RequestId, std::uint32_t> open_;  // by router
  std::set<std::uint32_t> routers_lost_;
  std::uint32_t next_router_ = 0;
  std::uint64_t done_ = 0;
  record::TruthLog truth_;
  LiveRun run_;
};

}  // namespace faultline::live

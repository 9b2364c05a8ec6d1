// What every process of a live cluster on one host shares: the settings (read only, in a file of memory that is
// inherited) and the board (shared memory): when the run began, who is ready, and the state of the emulated hardware.
//
// The board stands for what a real node has of its own: a GPU that is dead or hangs is a flag here that its agent's
// driver reads when it starts workers or probes. Controllers never see it but through those answers.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "backend/driver/live_clock.h"
#include "backend/messenger/tcp_messenger.h"
#include "backend/transport/fd.h"
#include "core/experiment/deployment.h"

namespace faultline::live {

inline constexpr std::uint32_t kMembersMax = 4096, kNodesMax = 2048, kNodeGpusMax = 16, kNodeWorkersMax = 16;

/// Descriptors that every process of a cluster inherits under these numbers.
inline constexpr int kSettingsFd = 3, kBoardFd = 4, kControlFd = 5, kPageFd = 6;

struct ClusterSettings {
  std::string experiment;  // resolved YAML
  std::string secret;
  std::string program;  // path of this binary, for the processes that processes start
  std::string out;      // folder of the run; logs go to out/logs
  double speed = 1;
  std::int64_t scale = 1000;     // one byte is moved for so many bytes of the model
  std::uint16_t first_port = 0;  // of member 0; the others follow
};
std::string to_text(const ClusterSettings& settings);
/// Throws std::runtime_error for anything that to_text() did not make.
ClusterSettings settings_from(const std::string& text);

enum class GpuState : std::uint8_t { well, dead, hung };
enum class Ready : std::uint32_t { no, listening, serving };

struct Board {
  std::atomic<std::int64_t> begin_ns{0};  // of the run on the monotonic clock; 0 = not yet
  std::atomic<std::uint32_t> go{0};       // everybody listens: agents may start workers and leaders
  std::atomic<std::uint32_t> over{0};     // from here on what a process sees of others is their end, not a failure
  std::array<std::atomic<Ready>, kMembersMax> ready{};
  std::array<std::atomic<std::uint32_t>, kMembersMax> starts{};  // processes of this member so far
  std::array<std::atomic<pid_t>, kMembersMax> leader{};          // by instance; 0 = its process is gone
  std::array<std::atomic<std::uint32_t>, kMembersMax> leader_node{};
  struct Worker {
    std::atomic<pid_t> pid{0};
    std::atomic<std::uint32_t> instance{0}, group{0}, gpus{0};
  };
  struct Node {
    std::array<std::atomic<GpuState>, kNodeGpusMax> gpu{};
    std::array<Worker, kNodeWorkersMax> workers{};
  };
  std::array<Node, kNodesMax> nodes{};
  // Counted by all, for the report.
  std::atomic<std::uint64_t> exchanges{0}, exchange_bytes{0}, exchanges_wrong{0}, kv_pushes{0}, kv_bytes{0},
      kv_checked{0}, kv_wrong{0};
};

/// Shared memory of a size, zeroed; in a process that inherited it, mapped again.
transport::Fd make_memory(const char* name, std::size_t size);
void* map_memory(int fd, std::size_t size);  // throws std::runtime_error with the system's reason
Board* map_board(int fd);

/// What a progress page of a worker holds: what it has done, also when it can no longer say so.
struct WorkerPage {
  std::atomic<std::uint64_t> op{~std::uint64_t{0}};
  std::atomic<std::int64_t> steps{0};
  std::atomic<std::int64_t> at_ns{0};  // of the last boundary, run's time
};

class Cluster {
 public:
  Cluster(ClusterSettings settings, Board* board, const config::FileReader& reader);

  const ClusterSettings& settings() const { return settings_; }
  const experiment::ExperimentSpec& spec() const { return spec_; }
  const experiment::Deployment& deployment() const { return *deployment_; }
  Board& board() const { return *board_; }

  /// Members in the order routers, fleet manager, instance leaders, node agents, client.
  std::uint32_t member_of(Address address) const;
  Address address_of(std::uint32_t member) const;
  std::uint32_t members() const { return nodes_from_ + nodes_ + 1; }
  std::uint32_t routers() const { return routers_; }
  std::uint32_t nodes() const { return nodes_; }
  messenger::TcpMessengerSettings messenger_settings(Address self, std::uint64_t incarnation,
                                                     const LiveClock& clock) const;

 private:
  ClusterSettings settings_;
  Board* board_;
  experiment::ExperimentSpec spec_;
  std::unique_ptr<experiment::Deployment> deployment_;
  std::uint32_t routers_ = 0, instances_ = 0, nodes_ = 0, nodes_from_ = 0;
};

/// The cluster of a process that was started by another one of it.
Cluster inherited_cluster(const config::FileReader& reader);

/// Starts `program` with arguments in a new process that dies with the calling thread. fds[i] becomes descriptor
/// kSettingsFd + i there; -1 leaves it out. own_group: it leads a process group (so that Ctrl-C reaches only the
/// starter, and it can be stopped with its children). Throws std::runtime_error with the system's reason.
pid_t start_process(const std::string& program, const std::vector<std::string>& arguments, const std::vector<int>& fds,
                    bool own_group);

}  // namespace faultline::live

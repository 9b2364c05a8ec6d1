// The exchange of one worker with the others of its group: set-up, one round for each step, a check of what came back.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "backend/driver/cluster.h"
#include "backend/driver/wire.h"
#include "backend/driver/worker.h"
#include "backend/ep/exchange.h"
#include "backend/inproc/paced_executor.h"
#include "backend/transport/tcp_transport.h"

namespace faultline::live {

class WorkerExchange final : public inproc::Rendezvous {
 public:
  /// budget: real; a worker that says nothing for longer is gone.
  WorkerExchange(const WorkerOptions& options, const std::string& secret, Duration budget, Board& board);

  Listening listening() const;
  void join(const std::vector<WorkerInfo>& workers);
  bool joined() const { return ep_ != nullptr || options_.count == 1; }

  void begin() override { ++wanted_; }
  bool ended() const override { return options_.count == 1 || (ended_ == wanted_ && broken_ == Cause::none); }
  /// Since when the present round has waited; nullopt where none does.
  std::optional<std::chrono::steady_clock::time_point> waiting_since() const;
  /// Why no round will end any more; none while all are there.
  Cause broken() const { return broken_; }

  /// Events of the transport, and what follows from them.
  void work();
  int event_descriptor() const { return transport_.event_descriptor(); }

 private:
  Instant now() const {
    return {std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
                .count()};
  }
  void dispatch();
  void combine();
  void check();

  static constexpr std::uint32_t kHidden = 64;  // floats of a token
  WorkerOptions options_;
  Board& board_;
  transport::TcpTransport transport_;
  ep::ExchangeSettings settings_;
  std::vector<std::byte> window_;
  std::vector<EndpointId> peers_;
  std::vector<RegionId> windows_;
  std::uint32_t up_ = 0;
  std::unique_ptr<ep::Exchange> ep_;
  std::vector<float> values_;
  std::uint64_t wanted_ = 0, ended_ = 0, rounds_ = 0, ops_ = 0;
  bool running_ = false, combining_ = false;
  std::chrono::steady_clock::time_point since_{};
  Cause broken_ = Cause::none;
};

}  // namespace faultline::live

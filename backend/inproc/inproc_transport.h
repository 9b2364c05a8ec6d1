// Transport between objects of one process: no socket, no thread, bytes are copied when they are due. It is the
// reference implementation of the contract, and the fast double for tests of everything above a transport.
//
// Time comes from the Clock given to the Fabric: with a ManualClock a run is deterministic. A path costs `latency` plus
// bytes over `bandwidth`, one batch after the other per direction; a broken path tells nobody and its operations fail
// when their budget has passed, as on a real network. Owner: one thread for a Fabric and all its transports.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "core/ports/book.h"
#include "core/ports/clock.h"
#include "core/ports/transport.h"

namespace faultline::inproc {

struct FabricSettings {
  Duration latency{5'000};
  BytesPerSecond bandwidth{10'000'000'000};
  Duration failure_budget{500'000'000};  // RC with timeout 14, retry 6: 0.47 s (IBTA: (retry + 1) * 4.096 us * 2^timeout)
  std::uint32_t ops_in_flight_max = 64;
  std::uint32_t spans_per_batch_max = 256;
};

class InprocTransport;

/// What connects the transports of a process; outlives them.
class Fabric {
 public:
  explicit Fabric(const Clock& clock, FabricSettings settings = {}) : clock_(&clock), settings_(settings) {}
  const FabricSettings& settings() const { return settings_; }

  /// Both directions lose everything from now on, also what is under way. Nobody is told.
  void break_route(const InprocTransport& a, const InprocTransport& b);
  void mend_route(const InprocTransport& a, const InprocTransport& b);
  /// The next time at which something happens; kNever if nothing is due.
  Instant next_due() const { return due_.empty() ? kNever : due_.begin()->first.first; }

 private:
  friend class InprocTransport;
  using Link = std::pair<std::uint64_t, std::uint64_t>;  // transport numbers, from and to
  enum class What : std::uint8_t { connect, connect_timeout, arrive, acknowledge, give_up, peer_gone };
  struct Action {
    What what;
    std::uint64_t from;  // number of the transport that acts
    std::uint64_t to;
    std::uint64_t session;  // peer_gone: 1 = noticed by silence, not by a reset
    WriteBatch batch;       // arrive, acknowledge, give_up
  };

  void schedule(Instant at, Action action) { due_.emplace(std::make_pair(at, ++scheduled_), std::move(action)); }
  void run();  // everything due by now
  void act(const Action& action);
  bool broken(std::uint64_t a, std::uint64_t b) const { return broken_.contains(std::minmax(a, b)); }
  InprocTransport* find(std::uint64_t number) const;

  const Clock* clock_;
  FabricSettings settings_;
  std::map<std::uint64_t, InprocTransport*> transports_;
  std::map<std::pair<Instant, std::uint64_t>, Action> due_;
  std::map<Link, Instant> busy_until_;
  std::set<Link> broken_;
  std::uint64_t scheduled_ = 0;
  std::uint64_t numbers_ = 0;
};

class InprocTransport final : public Transport {
 public:
  explicit InprocTransport(Fabric& fabric);
  ~InprocTransport() override;
  InprocTransport(const InprocTransport&) = delete;
  InprocTransport& operator=(const InprocTransport&) = delete;

  TransportLimits limits() const override { return book_.limits(); }
  std::vector<std::byte> local_address() const override;
  Status open(EndpointId peer, std::span<const std::byte> address) override;
  void close(EndpointId peer) override;
  Status register_memory(RegionId region, std::span<std::byte> memory) override;
  Status deregister(RegionId region) override;
  std::vector<std::byte> export_region(RegionId region) const override;
  Status import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob) override;
  Status post(const WriteBatch& batch) override;
  void cancel(OpId op) override;
  std::size_t poll(std::span<TransportEvent> out) override;

 private:
  friend class Fabric;
  struct Session {
    std::uint64_t to = 0;      // number of the peer's transport
    std::uint64_t session = 0;  // of this side's open()
    std::uint64_t peer_session = 0;  // 0 until both have opened each other
  };
  const EndpointId* endpoint_of(std::uint64_t number) const;
  /// True if every span's key is registered and in range here; then copies.
  bool land(const InprocTransport& from, const WriteBatch& batch);

  Fabric* fabric_;
  std::uint64_t number_;
  transport::Book book_;
  std::map<EndpointId, Session> sessions_;
  std::map<RegionId, std::uint64_t> keys_;
  std::map<std::uint64_t, RegionId> regions_by_key_;
  std::uint64_t counter_ = 0;
};

}  // namespace faultline::inproc

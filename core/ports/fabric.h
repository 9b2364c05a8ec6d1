// The Transport port between objects of one process: sessions, regions, the landing of bytes, acknowledgements, and who
// learns what of an end. What is missing is time: a subclass says what time it is, how long bytes travel and which
// routes are broken (in-process: a pipe by a Clock; simulated: flows on the max-min network, failures after the
// retransmission budget). All refusals are Book's. Owner: one thread for a fabric and all its transports; the fabric
// outlives them.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "core/ports/book.h"

namespace faultline::ports {

struct FabricSettings {
  Duration latency;  // of what connections say to each other: opening, acknowledgement, reset
  TransportLimits limits;
};

class FabricTransport;

class Fabric {
 public:
  using Number = std::uint64_t;  // of a transport, from 1
  explicit Fabric(const FabricSettings& settings) : settings_(settings) {}
  virtual ~Fabric() = default;
  Fabric(const Fabric&) = delete;
  Fabric& operator=(const Fabric&) = delete;

 protected:
  using Slot = std::uint32_t;
  virtual Instant fabric_time() const = 0;
  /// due(slot) is to be called at `at`; at one instant in the order of these calls.
  virtual void wake_at(Instant at, Slot slot) = 0;
  /// Moves the bytes of one operation. Later due(slot) when they have arrived, or gave_up(slot) when the budget has
  /// passed without progress. Nothing is called from inside.
  virtual void carry(Slot slot, Number from, Number to, Bytes bytes) = 0;
  /// The operation has ended. True: neither due() nor gave_up() will be called for it.
  virtual bool drop(Slot) { return false; }
  virtual bool broken(Number from, Number to) const = 0;
  /// Called before anybody posts or polls: subclasses without an event loop of their own do what is due.
  virtual void catch_up() {}
  void due(Slot slot);
  void gave_up(Slot slot);

 private:
  friend class FabricTransport;
  enum class What : std::uint8_t { connect, connect_timeout, arrive, acknowledge, give_up, peer_gone };
  struct Action {
    What what{};
    Number from = 0;  // the transport that acts
    Number to = 0;
    std::uint64_t session = 0;  // peer_gone: 1 = noticed by silence, not by a reset
    WriteBatch batch;           // arrive, acknowledge, give_up
  };
  Slot keep(Action action);
  Action take(Slot slot);
  void schedule(Duration after, Action action) { wake_at(fabric_time() + after, keep(std::move(action))); }
  void act(const Action& action);
  FabricTransport* find(Number number) const;

  FabricSettings settings_;
  std::map<Number, FabricTransport*> transports_;
  std::vector<Action> actions_;
  std::vector<Slot> free_;
  Number numbers_ = 0;
};

class FabricTransport final : public Transport {
 public:
  explicit FabricTransport(Fabric& fabric);
  /// As the death of its process: peers learn of it by a reset, or by silence where the route is broken.
  ~FabricTransport() override;
  FabricTransport(const FabricTransport&) = delete;
  FabricTransport& operator=(const FabricTransport&) = delete;

  Fabric::Number number() const { return number_; }
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
    Fabric::Number to = 0;
    std::uint64_t session = 0;       // of this side's open()
    std::uint64_t peer_session = 0;  // 0 until both have opened each other
  };
  struct Flight {
    EndpointId peer;
    Fabric::Slot slot = 0;
  };
  const EndpointId* endpoint_of(Fabric::Number number) const;
  /// True if every span's key is registered and in range here; then copies.
  bool land(const FabricTransport& from, const WriteBatch& batch);
  void end_session(EndpointId peer, Cause cause);
  void drop_flights(EndpointId peer);

  Fabric* fabric_;
  Fabric::Number number_;
  transport::Book book_;
  std::map<EndpointId, Session> sessions_;
  std::map<RegionId, std::uint64_t> keys_;
  std::map<std::uint64_t, RegionId> regions_by_key_;
  std::map<OpId, Flight> flights_;  // whose bytes have not arrived yet
  std::uint64_t counter_ = 0;
};

}  // namespace faultline::ports

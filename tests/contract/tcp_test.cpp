// The transport contract on TcpTransport: over TCP through a relay that can fall silent, over the same-host ring, and
// over TCP inside an empty FaultyTransport. Real time: nothing here asserts how fast anything is, only that ends come
// within the failure budget plus the slack of a busy machine.
#include "backend/transport/tcp_transport.h"

#include <thread>

#include "backend/inproc/clocks.h"
#include "backend/transport/tcp_engine.h"
#include "core/fault/faulty_transport.h"
#include "tests/contract/relay.h"
#include "tests/contract/transport_contract.h"

namespace faultline::contract {
namespace {

using transport::TcpSettings;
using transport::TcpTransport;

/// Gives the route through the relay as the address of its inner transport.
class Relayed final : public Transport {
 public:
  Relayed(const TcpSettings& settings, Relay& relay) : inner_(settings), relay_(&relay) {
    relay.forward_to(inner_.port());
  }
  TransportLimits limits() const override { return inner_.limits(); }
  std::vector<std::byte> local_address() const override {
    auto address = *transport::decode_address(inner_.local_address());
    address.port = relay_->port();
    return transport::encode(address);
  }
  Status open(EndpointId peer, std::span<const std::byte> address) override { return inner_.open(peer, address); }
  void close(EndpointId peer) override { inner_.close(peer); }
  Status register_memory(RegionId region, std::span<std::byte> memory) override {
    return inner_.register_memory(region, memory);
  }
  Status deregister(RegionId region) override { return inner_.deregister(region); }
  std::vector<std::byte> export_region(RegionId region) const override { return inner_.export_region(region); }
  Status import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob) override {
    return inner_.import_region(region, owner, blob);
  }
  Status post(const WriteBatch& batch) override { return inner_.post(batch); }
  void cancel(OpId op) override { inner_.cancel(op); }
  std::size_t poll(std::span<TransportEvent> out) override { return inner_.poll(out); }

 private:
  TcpTransport inner_;
  Relay* relay_;
};

TcpSettings settings_of(std::uint32_t connections, bool same_host) {
  TcpSettings settings;
  settings.secret = "contract";
  settings.connections = connections;
  settings.same_host_path = same_host;
  settings.failure_budget = Duration{1'000'000'000};  // a thread of a busy machine may not run for some 100 ms
  settings.connect_timeout = Duration{10'000'000'000};
  settings.stripe_min = Bytes{64 << 10};
  settings.chunk = Bytes{256 << 10};
  return settings;
}

class TcpWorld : public TransportWorld {
 public:
  explicit TcpWorld(std::uint32_t connections, bool same_host, bool faulty = false) : same_host_(same_host) {
    for (std::size_t i = 0; i < 2; ++i) {
      if (same_host) sides_[i] = std::make_unique<TcpTransport>(settings_of(connections, true));
      else sides_[i] = std::make_unique<Relayed>(settings_of(connections, false), relays_[i]);
      if (faulty) faulty_[i] = std::make_unique<fault::FaultyTransport>(*sides_[i], clock_, fault::TransportFaults{});
    }
  }
  Transport& transport(int side) override {
    const auto i = static_cast<std::size_t>(side);
    return faulty_[i] ? static_cast<Transport&>(*faulty_[i]) : *sides_[i];
  }
  void destroy(int side) override {
    faulty_[static_cast<std::size_t>(side)].reset();
    sides_[static_cast<std::size_t>(side)].reset();
  }
  bool run_until(const std::function<bool()>& done, Duration budget) override {
    const Instant end = clock_.now() + budget;
    while (!done()) {
      if (clock_.now() >= end) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return true;
  }
  void break_route() override {
    for (Relay& relay : relays_) relay.set_open(false);
  }
  void mend_route() override {
    for (Relay& relay : relays_) relay.set_open(true);
  }
  std::string unbreakable() const override { return same_host_ ? "shared memory has no route to break" : ""; }
  Instant now() override { return clock_.now(); }
  Duration slack() const override { return Duration{10'000'000'000}; }
  std::uint64_t random_operations() const override { return 10'000; }

 private:
  inproc::SteadyClock clock_;
  bool same_host_;
  std::array<Relay, 2> relays_;
  std::array<std::unique_ptr<Transport>, 2> sides_;
  std::array<std::unique_ptr<fault::FaultyTransport>, 2> faulty_;
};

const bool kRegistered =
    register_contract<TransportWorld>(
        "Transport", {.name = "Tcp", .make = [] { return std::make_unique<TcpWorld>(3, false); }, .missing = {}},
        transport_clauses()) &&
    register_contract<TransportWorld>(
        "Transport", {.name = "TcpSameHost", .make = [] { return std::make_unique<TcpWorld>(2, true); }, .missing = {}},
        transport_clauses()) &&
    register_contract<TransportWorld>(
        "Transport",
        {.name = "TcpInFaulty", .make = [] { return std::make_unique<TcpWorld>(1, false, true); }, .missing = {}},
        transport_clauses());

}  // namespace
}  // namespace faultline::contract

#include "backend/transport/tcp_transport.h"

#include "backend/transport/tcp_engine.h"

namespace faultline::transport {

void describe(config::Fields& f, TcpSettings& s) {
  f.field("secret", s.secret);
  f.field("bind_address", s.bind_address);
  f.field("port", s.port);
  f.field("connections", s.connections, {.min = 1, .max = 64});
  f.field("same_host_path", s.same_host_path);
  f.field("failure_budget", s.failure_budget, {.min = 20e6, .max = 600e9});
  f.field("connect_timeout", s.connect_timeout, {.min = 1e6, .max = 600e9});
  describe_batches(f, s, 1 << 20, 8 << 20);
  f.field("backlog", s.backlog, config::kPositive);
  f.field("handshakes_max", s.handshakes_max, config::kPositive);
  f.field("notifies_unread_max", s.notifies_unread_max, config::kPositive);
  f.field("spin", s.spin, config::kNotNegative);
}

TcpTransport::TcpTransport(const TcpSettings& settings) : engine_(std::make_unique<Engine>(settings)) {}
TcpTransport::~TcpTransport() = default;

TransportLimits TcpTransport::limits() const { return engine_->limits(); }
std::vector<std::byte> TcpTransport::local_address() const { return encode(engine_->address()); }
Status TcpTransport::open(EndpointId peer, std::span<const std::byte> address) { return engine_->open(peer, address); }
void TcpTransport::close(EndpointId peer) { engine_->close(peer); }
Status TcpTransport::register_memory(RegionId region, std::span<std::byte> memory) {
  return engine_->register_memory(region, memory);
}
Status TcpTransport::register_shared(RegionId region, const SharedMemory& memory) {
  return engine_->register_shared(region, memory);
}
Status TcpTransport::deregister(RegionId region) { return engine_->deregister(region); }
std::vector<std::byte> TcpTransport::export_region(RegionId region) const { return engine_->export_region(region); }
Status TcpTransport::import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob) {
  return engine_->import_region(region, owner, blob);
}
Status TcpTransport::post(const WriteBatch& batch) { return engine_->post(batch); }
void TcpTransport::cancel(OpId op) { engine_->cancel(op); }
std::size_t TcpTransport::poll(std::span<TransportEvent> out) { return engine_->poll(out); }
int TcpTransport::event_descriptor() const { return engine_->event_descriptor(); }
TcpCounters TcpTransport::counters() const { return engine_->counters(); }
std::uint16_t TcpTransport::port() const { return engine_->address().port; }

}  // namespace faultline::transport

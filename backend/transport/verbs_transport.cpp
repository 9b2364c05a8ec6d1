#include "backend/transport/verbs_transport.h"

#include "backend/transport/verbs_engine.h"

namespace faultline::transport {

void describe(config::Fields& f, VerbsSettings& s) {
  f.list("devices", s.devices);
  f.field("rails", s.rails, {.min = 1, .max = kRailsMax});
  f.field("near", s.near);
  f.field("port", s.port, {.min = 1, .max = 255});
  f.field("gid_index", s.gid_index, {.min = -1, .max = 255});
  f.field("qps", s.qps, {.min = 1, .max = 16});
  f.field("mtu", s.mtu, {.min = 256, .max = 4096});
  f.field("timeout", s.timeout, {.min = 1, .max = 31});
  f.field("retry_count", s.retry_count, {.min = 1, .max = 7});
  f.field("rnr_retry", s.rnr_retry, {.min = 0, .max = 7});
  f.field("min_rnr_timer", s.min_rnr_timer, {.min = 0, .max = 31});
  f.field("traffic_class", s.traffic_class, {.min = 0, .max = 255});
  f.field("send_queue", s.send_queue, {.min = 2, .max = 32768});
  f.field("sge_max", s.sge_max, {.min = 1, .max = 256});
  f.field("inline_max", s.inline_max, {.min = 0, .max = 1024});
  f.field("transfer_deadline", s.transfer_deadline, {.min = 10e6, .max = 600e9});
  describe_batches(f, s, 16384, 1 << 30);
  f.field("rail_pause", s.rail_pause, {.min = 1e6, .max = 600e9});
  f.field("polling", s.polling);
  f.object("control", s.control);
}

VerbsTransport::VerbsTransport(const VerbsSettings& settings) : engine_(std::make_unique<Engine>(settings)) {}
VerbsTransport::~VerbsTransport() = default;
TransportLimits VerbsTransport::limits() const { return engine_->limits(); }
std::vector<std::byte> VerbsTransport::local_address() const { return engine_->local_address(); }
Status VerbsTransport::open(EndpointId peer, std::span<const std::byte> address) {
  return engine_->open(peer, address);
}
void VerbsTransport::close(EndpointId peer) { engine_->close(peer); }
Status VerbsTransport::register_memory(RegionId region, std::span<std::byte> memory) {
  return engine_->register_memory(region, memory);
}
Status VerbsTransport::register_dmabuf(RegionId region, int dmabuf, Bytes offset, Bytes length, std::uint64_t address) {
  return engine_->register_dmabuf(region, dmabuf, offset, length, address);
}
Status VerbsTransport::deregister(RegionId region) { return engine_->deregister(region); }
std::vector<std::byte> VerbsTransport::export_region(RegionId region) const { return engine_->export_region(region); }
Status VerbsTransport::import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob) {
  return engine_->import_region(region, owner, blob);
}
Status VerbsTransport::post(const WriteBatch& batch) { return engine_->post(batch); }
void VerbsTransport::cancel(OpId op) { engine_->cancel(op); }
std::size_t VerbsTransport::poll(std::span<TransportEvent> out) { return engine_->poll(out); }
VerbsCounters VerbsTransport::counters() const { return engine_->counters(); }
std::string VerbsTransport::description() const { return engine_->description(); }

}  // namespace faultline::transport

#include "backend/inproc/inproc_transport.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/base/hash.h"

namespace faultline::inproc {
namespace {

constexpr std::uint64_t kAddressMagic = 0x666c742d696e7031ULL;
constexpr std::uint64_t kRegionMagic = 0x666c742d696e7232ULL;

std::vector<std::byte> pack(std::span<const std::uint64_t> words) {
  std::vector<std::byte> blob(words.size_bytes());
  std::memcpy(blob.data(), words.data(), blob.size());
  return blob;
}

template <std::size_t N>
bool unpack(std::span<const std::byte> blob, std::array<std::uint64_t, N>& words) {
  if (blob.size() != sizeof words) return false;
  std::memcpy(words.data(), blob.data(), sizeof words);
  return true;
}

}  // namespace

// ---- Fabric ---------------------------------------------------------------------------------------------------------

InprocTransport* Fabric::find(std::uint64_t number) const {
  const auto it = transports_.find(number);
  return it == transports_.end() ? nullptr : it->second;
}

void Fabric::break_route(const InprocTransport& a, const InprocTransport& b) { broken_.insert(std::minmax(a.number_, b.number_)); }
void Fabric::mend_route(const InprocTransport& a, const InprocTransport& b) { broken_.erase(std::minmax(a.number_, b.number_)); }

void Fabric::run() {
  const Instant now = clock_->now();
  while (!due_.empty() && due_.begin()->first.first <= now) {
    const Action action = std::move(due_.begin()->second);
    due_.erase(due_.begin());
    act(action);
  }
}

void Fabric::act(const Action& action) {
  InprocTransport* from = find(action.from);
  InprocTransport* to = find(action.to);
  const EndpointId* peer = from ? from->endpoint_of(action.to) : nullptr;
  const bool alive = peer && from->sessions_.at(*peer).session == action.session;
  const bool connected = to && !broken(action.from, action.to);
  switch (action.what) {
    case What::connect: {
      if (!alive || !connected || from->sessions_.at(*peer).peer_session != 0) return;
      const EndpointId* back = to->endpoint_of(action.from);
      if (!back || to->sessions_.at(*back).peer_session != 0) return;  // the peer's own open() completes it later
      auto& mine = from->sessions_.at(*peer);
      auto& theirs = to->sessions_.at(*back);
      mine.peer_session = theirs.session;
      theirs.peer_session = mine.session;
      from->book_.went_up(*peer);
      to->book_.went_up(*back);
      return;
    }
    case What::connect_timeout:
      if (alive && from->sessions_.at(*peer).peer_session == 0) {
        const EndpointId id = *peer;
        from->sessions_.erase(id);
        from->book_.went_down(id, Cause::timeout, Cause::timeout);
      }
      return;
    case What::arrive: {
      if (!alive || !connected || !from->book_.in_flight(action.batch.op)) return;
      const EndpointId* back = to->endpoint_of(action.from);
      if (!back || to->sessions_.at(*back).session != from->sessions_.at(*peer).peer_session) return;
      if (!to->land(*from, action.batch)) {
        from->book_.failed(action.batch.op, Cause::protection);
        return;
      }
      if (action.batch.notify) to->book_.notified(*back, *action.batch.notify);
      Action answer = action;
      answer.what = What::acknowledge;
      schedule(clock_->now() + settings_.latency, std::move(answer));
      return;
    }
    case What::acknowledge:
      if (alive && connected) from->book_.completed(action.batch.op);
      return;
    case What::give_up:
      // A reliable connection that gives one operation up is lost as a whole.
      if (alive && from->book_.in_flight(action.batch.op)) {
        const EndpointId id = *peer;
        from->sessions_.erase(id);
        from->book_.went_down(id, Cause::link_down, Cause::link_down);
        schedule(clock_->now() + settings_.latency, {What::peer_gone, action.to, action.from, 0, {}});
      }
      return;
    case What::peer_gone:
      if (peer && from->sessions_.at(*peer).peer_session != 0) {
        const auto& session = from->sessions_.at(*peer);
        const EndpointId* back = to ? to->endpoint_of(action.from) : nullptr;
        if (back && to->sessions_.at(*back).session == session.peer_session) return;  // still the same two
        const bool by_silence = action.session != 0;
        if (broken(action.from, action.to) && !by_silence) {
          schedule(clock_->now() + settings_.failure_budget, {What::peer_gone, action.from, action.to, 1, {}});
          return;
        }
        const EndpointId id = *peer;
        const Cause cause = by_silence ? Cause::link_down : Cause::peer_lost;
        from->sessions_.erase(id);
        from->book_.went_down(id, cause, cause);
      }
      return;
  }
}

// ---- InprocTransport ------------------------------------------------------------------------------------------------

InprocTransport::InprocTransport(Fabric& fabric)
    : fabric_(&fabric),
      number_(++fabric.numbers_),
      book_({.ops_in_flight_max = fabric.settings_.ops_in_flight_max,
             .spans_per_batch_max = fabric.settings_.spans_per_batch_max,
             .failure_budget = fabric.settings_.failure_budget,
             .device_memory = false}) {
  fabric_->transports_[number_] = this;
}

InprocTransport::~InprocTransport() {
  fabric_->transports_.erase(number_);
  const Instant at = fabric_->clock_->now() + fabric_->settings_.latency;
  for (const auto& [peer, session] : sessions_) fabric_->schedule(at, {Fabric::What::peer_gone, session.to, number_, 0, {}});
}

const EndpointId* InprocTransport::endpoint_of(std::uint64_t number) const {
  for (const auto& [peer, session] : sessions_) {
    if (session.to == number) return &peer;
  }
  return nullptr;
}

std::vector<std::byte> InprocTransport::local_address() const {
  const std::array<std::uint64_t, 2> words{kAddressMagic, number_};
  return pack(words);
}

Status InprocTransport::open(EndpointId peer, std::span<const std::byte> address) {
  std::array<std::uint64_t, 2> words{};
  if (!unpack(address, words) || words[0] != kAddressMagic || words[1] == number_) return Cause::protection;
  if (endpoint_of(words[1])) return Cause::overload;  // this peer is open under another id
  if (Status status = book_.opening(peer); !status) return status;
  sessions_[peer] = {.to = words[1], .session = ++counter_, .peer_session = 0};
  const Instant now = fabric_->clock_->now();
  fabric_->schedule(now + fabric_->settings_.latency, {Fabric::What::connect, number_, words[1], counter_, {}});
  fabric_->schedule(now + fabric_->settings_.failure_budget, {Fabric::What::connect_timeout, number_, words[1], counter_, {}});
  return ok();
}

void InprocTransport::close(EndpointId peer) {
  const auto it = sessions_.find(peer);
  if (it == sessions_.end()) return;
  const Instant at = fabric_->clock_->now() + fabric_->settings_.latency;
  fabric_->schedule(at, {Fabric::What::peer_gone, it->second.to, number_, 0, {}});
  sessions_.erase(it);
  book_.went_down(peer, Cause::canceled, Cause::canceled);
}

Status InprocTransport::register_memory(RegionId region, std::span<std::byte> memory) {
  if (Status status = book_.add_region(region, memory); !status) return status;
  const std::uint64_t key = mix64(hash_combine(number_, ++counter_));
  keys_[region] = key;
  regions_by_key_[key] = region;
  return ok();
}

Status InprocTransport::deregister(RegionId region) {
  if (Status status = book_.remove_region(region); !status) return status;
  regions_by_key_.erase(keys_.at(region));
  keys_.erase(region);
  return ok();
}

std::vector<std::byte> InprocTransport::export_region(RegionId region) const {
  const auto key = keys_.find(region);
  if (key == keys_.end()) return {};
  const std::array<std::uint64_t, 4> words{kRegionMagic, number_, key->second, book_.region(region).size()};
  return pack(words);
}

Status InprocTransport::import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob) {
  std::array<std::uint64_t, 4> words{};
  if (!unpack(blob, words) || words[0] != kRegionMagic) return Cause::protection;
  const auto session = sessions_.find(owner);
  if (session == sessions_.end() || session->second.to != words[1]) return Cause::protection;
  return book_.add_remote(region, {.owner = owner, .key = words[2], .address = 0, .length = static_cast<std::int64_t>(words[3])});
}

Status InprocTransport::post(const WriteBatch& batch) {
  fabric_->run();
  if (Status status = book_.admit(batch); !status) return status;
  std::int64_t bytes = 0;
  for (const WriteSpan& span : batch.spans) bytes += span.length.v;
  const Session& session = sessions_.at(batch.peer);
  Instant& busy = fabric_->busy_until_[{number_, session.to}];
  const Instant now = fabric_->clock_->now();
  busy = std::max(busy, now) + duration_from_seconds(static_cast<double>(bytes) / static_cast<double>(fabric_->settings_.bandwidth.v));
  fabric_->schedule(busy + fabric_->settings_.latency, {Fabric::What::arrive, number_, session.to, session.session, batch});
  fabric_->schedule(busy + fabric_->settings_.failure_budget, {Fabric::What::give_up, number_, session.to, session.session, batch});
  return ok();
}

void InprocTransport::cancel(OpId op) { book_.failed(op, Cause::canceled); }

bool InprocTransport::land(const InprocTransport& from, const WriteBatch& batch) {
  for (const WriteSpan& span : batch.spans) {
    const auto region = regions_by_key_.find(from.book_.remote(span.remote).key);
    if (region == regions_by_key_.end()) return false;
    const auto target = book_.region(region->second);
    if (span.remote_offset.v + span.length.v > static_cast<std::int64_t>(target.size())) return false;
  }
  for (const WriteSpan& span : batch.spans) {
    if (span.length.v == 0) continue;
    const auto target = book_.region(regions_by_key_.at(from.book_.remote(span.remote).key));
    std::memmove(target.data() + span.remote_offset.v, from.book_.region(span.local).data() + span.local_offset.v,
                 static_cast<std::size_t>(span.length.v));
  }
  return true;
}

std::size_t InprocTransport::poll(std::span<TransportEvent> out) {
  fabric_->run();
  return book_.poll(out);
}

}  // namespace faultline::inproc

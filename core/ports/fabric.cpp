#include "core/ports/fabric.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/base/hash.h"

namespace faultline::ports {
namespace {

constexpr std::uint64_t kAddressMagic = 0x666c742d66616231ULL;
constexpr std::uint64_t kRegionMagic = 0x666c742d66616232ULL;

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

FabricTransport* Fabric::find(Number number) const {
  const auto it = transports_.find(number);
  return it == transports_.end() ? nullptr : it->second;
}

Fabric::Slot Fabric::keep(Action action) {
  if (free_.empty()) {
    actions_.push_back(std::move(action));
    return static_cast<Slot>(actions_.size() - 1);
  }
  const Slot slot = free_.back();
  free_.pop_back();
  actions_[slot] = std::move(action);
  return slot;
}

Fabric::Action Fabric::take(Slot slot) {
  free_.push_back(slot);
  return std::move(actions_[slot]);
}

void Fabric::due(Slot slot) { act(take(slot)); }

void Fabric::gave_up(Slot slot) {
  Action action = take(slot);
  action.what = What::give_up;
  act(action);
}

void Fabric::act(const Action& action) {
  FabricTransport* from = find(action.from);
  FabricTransport* to = find(action.to);
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
      if (alive && from->sessions_.at(*peer).peer_session == 0) from->end_session(*peer, Cause::timeout);
      return;
    case What::arrive: {
      if (from) from->flights_.erase(action.batch.op);
      if (!alive || !from->book_.in_flight(action.batch.op)) return;
      Action end = action;  // unless the acknowledgement comes first
      end.what = What::give_up;
      schedule(settings_.limits.failure_budget, std::move(end));
      const EndpointId* back = connected ? to->endpoint_of(action.from) : nullptr;
      if (!back || to->sessions_.at(*back).session != from->sessions_.at(*peer).peer_session) return;
      if (!to->land(*from, action.batch)) {
        from->book_.failed(action.batch.op, Cause::protection);
        return;
      }
      if (action.batch.notify) to->book_.notified(*back, *action.batch.notify);
      Action answer = action;
      answer.what = What::acknowledge;
      schedule(settings_.latency, std::move(answer));
      return;
    }
    case What::acknowledge:
      if (alive && connected) from->book_.completed(action.batch.op);
      return;
    case What::give_up:
      // A reliable connection that gives one operation up is lost as a whole.
      if (from) from->flights_.erase(action.batch.op);
      if (alive && from->book_.in_flight(action.batch.op)) {
        from->end_session(*peer, Cause::link_down);
        schedule(settings_.latency, {What::peer_gone, action.to, action.from, 0, {}});
      }
      return;
    case What::peer_gone:
      if (peer && from->sessions_.at(*peer).peer_session != 0) {
        const EndpointId* back = to ? to->endpoint_of(action.from) : nullptr;
        if (back && to->sessions_.at(*back).session == from->sessions_.at(*peer).peer_session)
          return;  // still the same two
        const bool by_silence = action.session != 0;
        if (broken(action.from, action.to) && !by_silence) {
          schedule(settings_.limits.failure_budget, {What::peer_gone, action.from, action.to, 1, {}});
          return;
        }
        from->end_session(*peer, by_silence ? Cause::link_down : Cause::peer_lost);
      }
      return;
  }
}

// ---- FabricTransport ------------------------------------------------------------------------------------------------

FabricTransport::FabricTransport(Fabric& fabric)
    : fabric_(&fabric), number_(++fabric.numbers_), book_(fabric.settings_.limits) {
  fabric_->transports_[number_] = this;
}

FabricTransport::~FabricTransport() {
  for (const auto& [peer, session] : sessions_) {
    drop_flights(peer);
    fabric_->schedule(fabric_->settings_.latency, {Fabric::What::peer_gone, session.to, number_, 0, {}});
  }
  fabric_->transports_.erase(number_);
}

const EndpointId* FabricTransport::endpoint_of(Fabric::Number number) const {
  for (const auto& [peer, session] : sessions_) {
    if (session.to == number) return &peer;
  }
  return nullptr;
}

void FabricTransport::drop_flights(EndpointId peer) {
  std::erase_if(flights_, [&](const auto& entry) {
    if (entry.second.peer != peer) return false;
    if (fabric_->drop(entry.second.slot)) fabric_->take(entry.second.slot);
    return true;
  });
}

void FabricTransport::end_session(EndpointId peer, Cause cause) {
  sessions_.erase(peer);
  book_.went_down(peer, cause, cause);
  drop_flights(peer);
}

std::vector<std::byte> FabricTransport::local_address() const {
  const std::array<std::uint64_t, 2> words{kAddressMagic, number_};
  return pack(words);
}

Status FabricTransport::open(EndpointId peer, std::span<const std::byte> address) {
  std::array<std::uint64_t, 2> words{};
  if (!unpack(address, words) || words[0] != kAddressMagic || words[1] == number_) return Cause::protection;
  if (endpoint_of(words[1])) return Cause::overload;  // this peer is open under another id
  if (Status status = book_.opening(peer); !status) return status;
  sessions_[peer] = {.to = words[1], .session = ++counter_, .peer_session = 0};
  fabric_->schedule(fabric_->settings_.latency, {Fabric::What::connect, number_, words[1], counter_, {}});
  fabric_->schedule(limits().failure_budget, {Fabric::What::connect_timeout, number_, words[1], counter_, {}});
  return ok();
}

void FabricTransport::close(EndpointId peer) {
  const auto it = sessions_.find(peer);
  if (it == sessions_.end()) return;
  fabric_->schedule(fabric_->settings_.latency, {Fabric::What::peer_gone, it->second.to, number_, 0, {}});
  end_session(peer, Cause::canceled);
}

Status FabricTransport::register_memory(RegionId region, std::span<std::byte> memory) {
  if (Status status = book_.add_region(region, memory); !status) return status;
  const std::uint64_t key = mix64(hash_combine(number_, ++counter_));
  keys_[region] = key;
  regions_by_key_[key] = region;
  return ok();
}

Status FabricTransport::deregister(RegionId region) {
  if (Status status = book_.remove_region(region); !status) return status;
  regions_by_key_.erase(keys_.at(region));
  keys_.erase(region);
  return ok();
}

std::vector<std::byte> FabricTransport::export_region(RegionId region) const {
  const auto key = keys_.find(region);
  if (key == keys_.end()) return {};
  const std::array<std::uint64_t, 4> words{kRegionMagic, number_, key->second, book_.region(region).size()};
  return pack(words);
}

Status FabricTransport::import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob) {
  std::array<std::uint64_t, 4> words{};
  if (!unpack(blob, words) || words[0] != kRegionMagic) return Cause::protection;
  const auto session = sessions_.find(owner);
  if (session == sessions_.end() || session->second.to != words[1]) return Cause::protection;
  return book_.add_remote(
      region, {.owner = owner, .key = words[2], .address = 0, .length = static_cast<std::int64_t>(words[3])});
}

Status FabricTransport::post(const WriteBatch& batch) {
  fabric_->catch_up();
  if (Status status = book_.admit(batch); !status) return status;
  Bytes bytes{0};
  for (const WriteSpan& span : batch.spans) bytes += span.length;
  const Session& session = sessions_.at(batch.peer);
  const Fabric::Slot slot = fabric_->keep({Fabric::What::arrive, number_, session.to, session.session, batch});
  flights_[batch.op] = {batch.peer, slot};
  fabric_->carry(slot, number_, session.to, bytes);
  return ok();
}

void FabricTransport::cancel(OpId op) {
  book_.failed(op, Cause::canceled);
  const auto flight = flights_.find(op);
  if (flight == flights_.end()) return;
  if (fabric_->drop(flight->second.slot)) fabric_->take(flight->second.slot);
  flights_.erase(flight);
}

bool FabricTransport::land(const FabricTransport& from, const WriteBatch& batch) {
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

std::size_t FabricTransport::poll(std::span<TransportEvent> out) {
  fabric_->catch_up();
  return book_.poll(out);
}

}  // namespace faultline::ports

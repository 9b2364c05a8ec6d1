#include "core/ports/book.h"

#include <algorithm>

namespace faultline::transport {
namespace {

/// [offset, offset + length) lies within [0, size), without overflow.
bool within(Bytes offset, Bytes length, std::int64_t size) {
  return offset.v >= 0 && length.v >= 0 && offset.v <= size && length.v <= size - offset.v;
}

}  // namespace

Status Book::add_region(RegionId region, std::span<std::byte> memory) {
  if (regions_.contains(region)) return Cause::overload;
  if (memory.data() == nullptr && !memory.empty()) return Cause::protection;
  regions_[region] = {memory, 0};
  return ok();
}

Status Book::remove_region(RegionId region) {
  const auto it = regions_.find(region);
  if (it == regions_.end()) return Cause::protection;
  if (it->second.uses > 0) return Cause::overload;
  regions_.erase(it);
  return ok();
}

std::span<std::byte> Book::region(RegionId region) const {
  const auto it = regions_.find(region);
  return it == regions_.end() ? std::span<std::byte>{} : it->second.memory;
}

Status Book::add_remote(RegionId region, const RemoteRegion& remote) {
  if (remotes_.contains(region)) return Cause::overload;
  if (remote.length < 0 || !known(remote.owner)) return Cause::protection;
  remotes_[region] = remote;
  return ok();
}

const RemoteRegion& Book::remote(RegionId region) const {
  const auto it = remotes_.find(region);
  FAULTLINE_ASSERT(it != remotes_.end(), "region={}", region.v);
  return it->second;
}

Status Book::opening(EndpointId peer) {
  if (peers_.contains(peer)) return Cause::overload;
  peers_[peer].generation = ++generations_;
  return ok();
}

bool Book::up(EndpointId peer) const {
  const auto it = peers_.find(peer);
  return it != peers_.end() && it->second.up;
}

void Book::went_up(EndpointId peer) {
  const auto it = peers_.find(peer);
  if (it == peers_.end() || it->second.up || it->second.closing) return;
  it->second.up = true;
  events_.push_back(EndpointUp{peer});
}

bool Book::closing(EndpointId peer) {
  const auto it = peers_.find(peer);
  if (it == peers_.end()) return false;
  it->second.up = false;
  it->second.closing = true;
  return true;
}

void Book::went_down(EndpointId peer, Cause op_cause, Cause down_cause) {
  const auto it = peers_.find(peer);
  if (it == peers_.end()) return;
  const auto open_ops = std::move(it->second.open_ops);
  it->second.open_ops.clear();
  for (const OpId op : open_ops) {
    operations_.at(op).terminal_queued = true;
    events_.push_back(OpFailed{op, op_cause});
  }
  events_.push_back(EndpointDown{peer, down_cause});
  peers_.erase(it);
  std::erase_if(remotes_, [peer](const auto& entry) { return entry.second.owner == peer; });
}

Status Book::admit(const WriteBatch& batch) {
  const auto peer = peers_.find(batch.peer);
  if (peer == peers_.end() || !peer->second.up) return Cause::peer_lost;
  if (batch.spans.size() > limits_.spans_per_batch_max) return Cause::overload;
  std::int64_t bytes = 0;
  for (const WriteSpan& span : batch.spans) {
    const auto local = regions_.find(span.local);
    const auto remote = remotes_.find(span.remote);
    if (local == regions_.end() || remote == remotes_.end() || remote->second.owner != batch.peer)
      return Cause::protection;
    if (!within(span.local_offset, span.length, static_cast<std::int64_t>(local->second.memory.size())) ||
        !within(span.remote_offset, span.length, remote->second.length)) {
      return Cause::protection;
    }
    bytes += span.length.v;
  }
  if (peer->second.ops >= limits_.ops_in_flight_max) return Cause::overload;
  FAULTLINE_ASSERT(!operations_.contains(batch.op), "op {} was used before", batch.op.v);
  Operation operation{.peer = batch.peer,
                      .generation = peer->second.generation,
                      .bytes = bytes,
                      .terminal_queued = false,
                      .locals = {}};
  for (const WriteSpan& span : batch.spans) {
    if (operation.locals.empty() || operation.locals.back() != span.local) {
      operation.locals.push_back(span.local);
      ++regions_.at(span.local).uses;
    }
  }
  ++peer->second.ops;
  peer->second.open_ops.insert(batch.op);
  operations_.emplace(batch.op, std::move(operation));
  return ok();
}

bool Book::in_flight(OpId op) const {
  const auto it = operations_.find(op);
  return it != operations_.end() && !it->second.terminal_queued;
}

void Book::completed(OpId op) {
  const auto it = operations_.find(op);
  if (it == operations_.end() || it->second.terminal_queued) return;
  it->second.terminal_queued = true;
  peers_.at(it->second.peer).open_ops.erase(op);
  events_.push_back(OpCompleted{op, {it->second.bytes}});
}

void Book::failed(OpId op, Cause cause) {
  const auto it = operations_.find(op);
  if (it == operations_.end() || it->second.terminal_queued) return;
  it->second.terminal_queued = true;
  peers_.at(it->second.peer).open_ops.erase(op);
  events_.push_back(OpFailed{op, cause});
}

void Book::notified(EndpointId from, std::uint32_t tag) {
  if (up(from)) events_.push_back(Notified{from, tag});
}

void Book::retire(OpId op) {
  const auto it = operations_.find(op);
  FAULTLINE_ASSERT(it != operations_.end(), "op={}", op.v);
  for (const RegionId region : it->second.locals) --regions_.at(region).uses;
  const auto peer = peers_.find(it->second.peer);
  if (peer != peers_.end() && peer->second.generation == it->second.generation) --peer->second.ops;
  operations_.erase(it);
}

std::size_t Book::poll(std::span<TransportEvent> out) {
  const std::size_t count = std::min(out.size(), events_.size());
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = events_.front();
    events_.pop_front();
    if (const auto* done = std::get_if<OpCompleted>(&out[i])) retire(done->op);
    if (const auto* lost = std::get_if<OpFailed>(&out[i])) retire(lost->op);
  }
  return count;
}

}  // namespace faultline::transport

#include "backend/ep/device_poster.h"

#include <algorithm>

namespace faultline::ep {
namespace {
constexpr std::int64_t kRequestMax = 1LL << 31;  // of an mlx5 data segment
}  // namespace

std::optional<std::uint64_t> DevicePoster::address(RegionId region, Bytes offset, Bytes length) const {
  const auto it = memory_.find(region);
  if (it == memory_.end() || offset.v < 0 || length.v <= 0 || length.v >= kRequestMax) return std::nullopt;
  const auto at = static_cast<std::uint64_t>(offset.v), size = static_cast<std::uint64_t>(length.v);
  if (at > it->second.length || size > it->second.length - at) return std::nullopt;
  return it->second.address + at;
}

Status DevicePoster::post(const WriteBatch& batch) {
  const auto it = peers_.find(batch.peer);
  if (it == peers_.end()) return Cause::peer_lost;
  Peer& peer = it->second;
  std::vector<kernels::RdmaWrite> writes;
  Bytes bytes{0};
  for (const WriteSpan& span : batch.spans) {
    const auto local = address(span.local, span.local_offset, span.length);
    const auto remote = address(span.remote, span.remote_offset, span.length);
    if (!local || !remote) return Cause::protection;
    writes.push_back({*local, *remote, memory_.at(span.local).key, memory_.at(span.remote).key,
                      static_cast<std::uint32_t>(span.length.v), 0, 0});
    bytes = bytes + span.length;
  }
  if (writes.empty()) writes.push_back({});  // no bytes: only its notify
  if (writes.size() > peer.queue.slots - peer.used) return Cause::overload;
  if (batch.notify) {
    writes.back().notify = *batch.notify;
    writes.back().with_notify = 1;
  }
  const auto count = static_cast<std::uint32_t>(writes.size());
  peer.used += count;
  peer.posted.push_back({batch.op, count, bytes});
  launch_({peer.queue, writes.data(), count});
  return ok();
}

std::vector<TransportEvent> DevicePoster::completed(EndpointId id, std::uint16_t index) {
  std::vector<TransportEvent> events;
  const auto it = peers_.find(id);
  if (it == peers_.end()) return events;
  Peer& peer = it->second;
  // How many requests have ended with this one: fewer than 2^16 are in the queue, so 16 bits tell.
  auto ended = static_cast<std::uint16_t>(index + 1 - peer.freed);
  while (!peer.posted.empty() && peer.posted.front().requests <= ended) {
    const Posted done = peer.posted.front();
    peer.posted.pop_front();
    ended = static_cast<std::uint16_t>(ended - done.requests);
    peer.freed += done.requests;
    peer.used -= done.requests;
    events.push_back(OpCompleted{done.op, done.bytes});
  }
  return events;
}

std::vector<TransportEvent> DevicePoster::failed(EndpointId id, Cause cause) {
  std::vector<TransportEvent> events;
  const auto it = peers_.find(id);
  if (it == peers_.end()) return events;
  for (const Posted& posted : it->second.posted) events.push_back(OpFailed{posted.op, cause});
  peers_.erase(it);
  return events;
}

}  // namespace faultline::ep

// What the processes of a live cluster say to each other. A Control packet carries a controller's message; every other
// one is between drivers: requests of clients, starting and joining workers, addresses of transports. Controllers see
// none of these. Bytes by core/record's codec; any bytes decode to a packet or to an error.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/control/messages.h"

namespace faultline::live {

using Blob = std::vector<std::uint8_t>;

/// Which workers: those of one group of one instance.
struct GroupId {
  std::uint32_t instance = 0, group = 0;
  control::Epoch epoch = 0;
  FAULTLINE_FIELDS(instance, group, epoch)
  friend bool operator==(const GroupId&, const GroupId&) = default;
};

// ---- between processes
// --------------------------------------------------------------------------------------------------

struct Control {
  control::Message message;
  FAULTLINE_FIELDS(message)
};
/// Client -> router, and its answer.
struct Request {
  control::RequestArrived request;
  FAULTLINE_FIELDS(request)
};
struct Answer {
  RequestId request;
  Cause cause = Cause::none;
  bool rejected = false;
  std::int32_t delivered = 0;
  FAULTLINE_FIELDS(request, cause, rejected, delivered)
};
/// Head agent -> agents of the group's nodes: start your worker. `index`: of the node in the group.
struct SpawnWorker {
  GroupId id;
  std::uint32_t index = 0, count = 1, gpus = 1;
  FAULTLINE_FIELDS(id, index, count, gpus)
};
/// The answer: the worker listens (its transport's address and window), or the hardware failed its check.
struct WorkerUp {
  GroupId id;
  std::uint32_t index = 0;
  Cause cause = Cause::none;
  Blob address, window;
  FAULTLINE_FIELDS(id, index, cause, address, window)
};
struct WorkerInfo {
  Blob address, window;
  FAULTLINE_FIELDS(address, window)
};
/// Head agent -> agents -> workers: who the others are.
struct JoinWorkers {
  GroupId id;
  std::vector<WorkerInfo> workers;
  FAULTLINE_FIELDS(id, workers)
};
struct WorkerJoined {
  GroupId id;
  std::uint32_t index = 0;
  FAULTLINE_FIELDS(id, index)
};
/// A worker's process is gone.
struct WorkerGone {
  GroupId id;
  std::uint32_t index = 0;
  FAULTLINE_FIELDS(id, index)
};
/// Kill the workers of this group, of this epoch and older ones.
struct KillWorkers {
  GroupId id;
  FAULTLINE_FIELDS(id)
};
/// A prefill pass ended: hand-offs bound to it may complete, or end with it.
struct PassEnded {
  OpId op;
  bool done = false;
  FAULTLINE_FIELDS(op, done)
};
/// Head agent -> agent of the leader's node, unless the leader runs; and its answer.
struct StartLeader {
  std::uint32_t instance = 0;
  FAULTLINE_FIELDS(instance)
};
struct LeaderUp {
  std::uint32_t instance = 0;
  FAULTLINE_FIELDS(instance)
};
/// Agent -> agent: how to reach my transport. `answer`: I have opened yours.
struct TransportHello {
  Blob address, region;
  std::uint64_t incarnation = 0;
  bool answer = false;
  FAULTLINE_FIELDS(address, region, incarnation, answer)
};

/// Head agent -> agents of a group whose exchange waits: is your node there? And the answer.
struct AreYouThere {
  GroupId id;
  OpId op;
  bool answer = false;
  FAULTLINE_FIELDS(id, op, answer)
};

using Packet = std::variant<Control, Request, Answer, SpawnWorker, WorkerUp, JoinWorkers, WorkerJoined, WorkerGone,
                            KillWorkers, PassEnded, StartLeader, LeaderUp, TransportHello, AreYouThere>;

// ---- between an agent and its worker
// ------------------------------------------------------------------------------------

struct RunOrder {
  control::RunStep step;
  FAULTLINE_FIELDS(step)
};
struct InterruptOrder {
  OpId op;
  FAULTLINE_FIELDS(op)
};
struct AbortOrder {
  OpId op;
  FAULTLINE_FIELDS(op)
};
using WorkerOrder = std::variant<JoinWorkers, RunOrder, InterruptOrder, AbortOrder>;

struct Listening {
  Blob address, window;
  FAULTLINE_FIELDS(address, window)
};
struct Joined {
  FAULTLINE_FIELDS()
};
struct OpEnded {
  OpId op;
  std::int64_t steps = 0;
  Cause cause = Cause::none;
  FAULTLINE_FIELDS(op, steps, cause)
};
/// The exchange of the running step has waited for half a retransmission budget.
struct Stalled {
  OpId op;
  FAULTLINE_FIELDS(op)
};
/// A connection to another worker ended: no step ends any more.
struct PeerGone {
  Cause cause = Cause::none;
  FAULTLINE_FIELDS(cause)
};
using WorkerReport = std::variant<Listening, Joined, OpEnded, Stalled, PeerGone>;

std::string encode(const Packet& packet);
std::string encode(const WorkerOrder& order);
std::string encode(const WorkerReport& report);
/// nullopt for bytes that encode() did not make.
std::optional<Packet> decode_packet(std::string_view bytes);
std::optional<WorkerOrder> decode_order(std::string_view bytes);
std::optional<WorkerReport> decode_report(std::string_view bytes);

inline Blob blob_of(std::span<const std::byte> bytes) {
  const auto* at = reinterpret_cast<const std::uint8_t*>(bytes.data());
  return {at, at + bytes.size()};
}
inline std::span<const std::byte> bytes_of(const Blob& blob) { return std::as_bytes(std::span(blob)); }

}  // namespace faultline::live

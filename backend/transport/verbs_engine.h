// The inside of VerbsTransport. Everything is guarded by one mutex: posting is cheap and done in the owner's thread, the
// progress thread takes completions, asynchronous events, control events and deadlines.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "core/ports/book.h"
#include "backend/transport/fd.h"
#include "backend/transport/plan.h"
#include "backend/transport/verbs_device.h"

namespace faultline::transport {

class VerbsTransport::Engine {
 public:
  explicit Engine(const VerbsSettings& settings);
  ~Engine();

  TransportLimits limits() const;
  std::vector<std::byte> local_address() const;
  Status open(EndpointId peer, std::span<const std::byte> address);
  void close(EndpointId peer);
  Status register_memory(RegionId region, std::span<std::byte> memory);
  Status register_dmabuf(RegionId region, int dmabuf, Bytes offset, Bytes length, std::uint64_t address);
  Status deregister(RegionId region);
  std::vector<std::byte> export_region(RegionId region) const;
  Status import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob);
  Status post(const WriteBatch& batch);
  void cancel(OpId op);
  std::size_t poll(std::span<TransportEvent> out);
  VerbsCounters counters() const;
  std::string description() const;

 private:
  using Time = std::chrono::steady_clock::time_point;

  /// Requests of one operation for one queue pair, posted as one doorbell; only the last is signalled.
  struct Chain {
    std::uint64_t id = 0;
    OpId op;
    std::vector<ibv_send_wr> requests;
    std::vector<ibv_sge> sges;
  };
  /// The ledger of a queue pair: what was posted, in order; a completion frees everything up to its chain.
  struct Queue {
    QpHandle qp;
    std::deque<std::pair<std::uint64_t, std::uint32_t>> posted;  // chain, requests
    std::map<std::uint64_t, OpId> ops;
    std::uint32_t used = 0;  // requests in the send queue
    std::deque<Chain> waiting;
  };
  struct Operation {
    EndpointId peer;
    std::uint32_t chains_left = 0;
    std::optional<std::uint32_t> notify;  // still to be sent, on its own
  };
  struct Peer {
    EndpointId id;
    std::uint64_t identity = 0;
    std::vector<Queue> queues;
    QpInfo mine;
    std::map<std::uint32_t, std::uint32_t> words;  // of the peer's QpInfo, as they come
    bool connected = false;   // our queue pairs are in RTS
    bool peer_ready = false;  // theirs are
    bool up = false;
    std::uint32_t in_flight = 0;
    Time progress;  // last completion, or first post after idleness
    Time connect_deadline;
    std::uint32_t rotation = 0;
  };

  void run();
  void take_control();
  void take_completions();
  void completion(const ibv_wc& wc);
  void take_async();
  void deadlines();
  bool make_queues(Peer& peer);
  void send_words(const Peer& peer);
  void send_word(const Peer& peer, std::uint32_t index, std::uint32_t value);
  void word(Peer& peer, std::uint32_t tag);
  void maybe_up(Peer& peer);
  void enqueue(Peer& peer, std::size_t queue, Chain chain);
  void flush_waiting(Peer& peer, Queue& queue);
  void post_notify(Peer& peer, OpId op, std::uint32_t tag);
  void chain_done(Peer& peer, OpId op);
  void lose(EndpointId peer, Cause op_cause, Cause down_cause);
  bool post_receive(ibv_qp* qp, std::uint32_t count);
  void wake();

  VerbsSettings settings_;
  VerbsDevice device_;
  std::uint64_t identity_;
  PdHandle pd_;
  ChannelHandle channel_;
  CqHandle cq_;
  Fd wake_event_;

  mutable std::mutex mutex_;
  Book book_;
  std::unique_ptr<TcpTransport> control_;  // used by whoever holds the mutex: one owner at a time
  std::map<RegionId, MrHandle> regions_;
  std::map<EndpointId, Peer> peers_;
  std::map<OpId, Operation> operations_;
  std::map<std::uint32_t, EndpointId> by_qp_;
  std::map<EndpointId, std::pair<Cause, Cause>> ending_;  // given up; EndpointDown follows that of the control connection
  std::set<EndpointId> notifies_due_;
  VerbsCounters counters_;
  std::uint64_t chains_ = 0;
  std::uint64_t control_ops_ = 0;
  bool port_down_ = false;

  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace faultline::transport

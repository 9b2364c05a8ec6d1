// The inside of VerbsTransport. Everything is guarded by one mutex: posting is cheap and done in the owner's thread,
// the progress thread takes completions, asynchronous events, control events and deadlines.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "backend/transport/fd.h"
#include "backend/transport/plan.h"
#include "backend/transport/verbs_device.h"
#include "core/ports/book.h"

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

  /// A device of ours.
  struct Rail {
    VerbsDevice device;
    PdHandle pd;
    ChannelHandle channel;
    CqHandle cq;
    std::map<std::uint32_t, EndpointId> by_qp;
    bool port_down = false;
  };
  /// Requests of one operation for one queue pair, posted as one doorbell; only the last is signalled. Kept whole until
  /// it has completed, so that it can be posted again over another rail.
  struct Chain {
    std::uint64_t id = 0;  // given when it is posted
    OpId op;
    std::vector<Request> requests;  // first_sge counts in `sges`
    std::vector<Sge> sges;
    std::optional<std::uint32_t> notify;  // with the last request
    bool probe = false;                   // of no operation: proves that the path carries
    std::uint32_t length() const { return static_cast<std::uint32_t>(std::max<std::size_t>(1, requests.size())); }
  };
  /// The ledger of a queue pair: what was posted, in order; a completion frees everything up to its chain.
  struct Queue {
    QpHandle qp;
    std::deque<Chain> posted;
    std::deque<Chain> waiting;
    std::uint32_t used = 0;           // requests in the send queue
    std::uint32_t receives = 0;       // posted and not completed
    std::uint32_t notifies_in = 0;    // received
    std::uint32_t notifies_done = 0;  // sent and acknowledged
  };
  /// The queue pairs of a link while a thread of their own connects them.
  struct Attempt {
    EndpointId peer;
    std::size_t rail = 0;
    std::vector<Queue> orphans;  // the queue pairs, once the link has been given up
    bool done = false, connected = false;
    std::thread thread;
  };
  /// One rail towards one peer. Every incarnation has an epoch; both ends fence one before anything of it goes
  /// elsewhere.
  struct Link {
    enum class State : std::uint8_t { paused, connecting, up, fencing } state = State::paused;
    std::uint32_t epoch = 0;
    QpInfo mine;
    std::vector<Queue> queues;
    Attempt* attempt = nullptr;  // under way: the queue pairs are its thread's
    bool connected = false;      // our queue pairs are in RTS
    bool peer_ready = false;     // theirs are
    std::uint32_t probes = 0;    // empty writes that have still to be acknowledged before it is up
    bool fenced_here = false;
    std::optional<std::vector<std::uint32_t>> fenced_there;  // notifies that each of their queue pairs received
    Cause cause = Cause::none;                               // why it is being fenced
    Time progress;                                           // last completion, or first post after idleness
    Time since;                                              // of the state
    bool busy() const;
  };
  struct Operation {
    EndpointId peer;
    std::uint32_t chains_left = 0;
    std::optional<std::uint32_t> notify;  // still to be sent, on its own
  };
  struct Peer {
    EndpointId id;
    std::uint64_t identity = 0;
    std::vector<Link> links;  // by rail
    bool up = false;
    Time connect_deadline;
    std::uint32_t rotation = 0;
    std::deque<std::uint32_t> words_out;
    std::size_t message_length = 0;  // of the control message that is coming in
    std::vector<std::byte> message;
  };
  /// What the two ends tell each other over the control connection, about one rail and one epoch of it.
  enum class Say : std::uint8_t { queue_pairs = 1, ready, fence, fenced };

  void run();
  void take_completions(std::size_t rail);
  void completion(std::size_t rail, const ibv_wc& wc);
  void received(Peer& peer, std::size_t rail, Queue& queue, const ibv_wc& wc);
  void chain_done(Peer& peer, OpId op);
  void take_async(std::size_t rail);
  void deadlines();
  void wake();

  // verbs_retire.cpp
  void retire(EndpointId peer, std::size_t rail, Queue& queue);
  void drained(std::size_t rail, const ibv_wc& wc);
  void step_retired(Time now);
  void retired_one(EndpointId peer);
  void finish_endings();
  void destroy();  // the destroying thread

  // verbs_connect.cpp
  void begin_attempt(Peer& peer, std::size_t rail, const QpInfo& theirs);
  void abandon(Link& link);
  void step_attempts();

  // verbs_control.cpp
  void take_control();
  void say(Peer& peer, Say what, std::size_t rail, const void* payload = nullptr, std::size_t bytes = 0);
  void flush_words(Peer& peer);
  void word(Peer& peer, std::uint32_t tag);
  void heard(Peer& peer);

  // verbs_links.cpp
  bool start_link(Peer& peer, std::size_t rail, std::uint32_t epoch);
  void connect_link(Peer& peer, std::size_t rail, std::uint32_t epoch, const QpInfo& theirs);
  void maybe_probe(Peer& peer, std::size_t rail);
  void link_up(Peer& peer, Link& link);
  void fail_link(EndpointId peer, std::size_t rail, Cause cause);
  void fence(Peer& peer, std::size_t rail, Cause cause);
  void stop_queues(Peer& peer, std::size_t rail);
  void step_fence(Peer& peer, std::size_t rail);
  void resolve(Peer& peer, std::size_t rail);
  void step_links(Peer& peer, Time now);
  void forget_queues(EndpointId peer, std::size_t rail, Link& link);
  bool post_receive(Queue& queue, std::uint32_t count);
  void flush_waiting(EndpointId peer, std::size_t rail, std::size_t queue);
  void lose(EndpointId peer, Cause op_cause, Cause down_cause);
  Queue* usable_queue(Peer& peer, std::size_t& rail, std::size_t& queue);

  VerbsSettings settings_;
  std::vector<Rail> rails_;
  std::uint64_t identity_;
  Fd wake_event_;

  mutable std::mutex mutex_;
  Book book_;
  std::unique_ptr<TcpTransport> control_;              // used by whoever holds the mutex: one owner at a time
  std::map<RegionId, std::vector<MrHandle>> regions_;  // by rail
  struct RemoteKeys {
    EndpointId owner;
    std::vector<std::uint32_t> by_rail;
  };
  std::map<RegionId, RemoteKeys> remote_keys_;
  std::map<EndpointId, Peer> peers_;
  std::list<Attempt> attempts_;
  std::map<OpId, Operation> operations_;
  /// A peer that was given up. Its operations end once its queue pairs are drained and the control connection is gone.
  struct Ending {
    Cause of_operations, of_peer;
    bool control_gone = false;
  };
  std::map<EndpointId, Ending> ending_;
  /// A queue pair in the error state. It is drained when all its receives and, behind everything it had to send, a mark
  /// have come back: then it touches no memory any more.
  struct Retired {
    EndpointId peer;
    std::size_t rail = 0;
    QpHandle qp;
    std::uint32_t receives = 0;
    bool mark = false;       // posted and not back
    bool drainable = false;  // else only destroying it ends it
    Time since;
  };
  std::vector<Retired> retired_;
  std::map<EndpointId, std::size_t> retiring_;  // queue pairs of a peer that are neither drained nor destroyed
  struct Doomed {
    QpHandle qp;
    std::optional<EndpointId> waits;  // the peer whose end waits for it, because it could not be drained
  };
  std::vector<Doomed> doomed_;  // for the destroying thread
  std::size_t destroying_ = 0;
  std::condition_variable destroy_wake_;
  std::set<EndpointId> notifies_due_;
  std::vector<ibv_send_wr> requests_;  // scratch of flush_waiting()
  std::vector<ibv_sge> sges_;
  VerbsCounters counters_;
  std::uint64_t chains_ = 0;
  std::uint64_t control_ops_ = 0;

  std::atomic<bool> stop_{false};
  std::thread thread_, destroyer_;
};

}  // namespace faultline::transport

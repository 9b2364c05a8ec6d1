// The progress thread of VerbsTransport: completions, asynchronous events, the control connection, deadlines.
#include <arpa/inet.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "backend/transport/verbs_engine.h"

namespace faultline::transport {
namespace {
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr int kTimerMs = 20;
constexpr int kCompletionsPerPoll = 32;
constexpr std::uint32_t kReadyWord = 254;
constexpr std::uint32_t kInfoWords = (sizeof(QpInfo) + 2) / 3;
static_assert(kInfoWords < kReadyWord);

/// The first error that is not a flush is the root; flushes are its consequence.
Cause cause_of(ibv_wc_status status) {
  switch (status) {
    case IBV_WC_REM_ACCESS_ERR:
    case IBV_WC_REM_INV_REQ_ERR:
    case IBV_WC_REM_OP_ERR:
    case IBV_WC_LOC_PROT_ERR: return Cause::protection;
    case IBV_WC_FATAL_ERR: return Cause::device_lost;
    default: return Cause::link_down;  // RETRY_EXC, RNR_RETRY_EXC, LOC_QP_OP_ERR after a port went down
  }
}

}  // namespace

void VerbsTransport::Engine::run() {
  const int control_event = control_->event_descriptor();
  while (!stop_.load()) {
    if (!settings_.polling) {
      std::array<pollfd, 4> fds{{{channel_->fd, POLLIN, 0}, {device_.context->async_fd, POLLIN, 0}, {control_event, POLLIN, 0}, {wake_event_.get(), POLLIN, 0}}};
      ::poll(fds.data(), fds.size(), kTimerMs);
      std::uint64_t drained = 0;
      const ssize_t got = ::read(wake_event_.get(), &drained, sizeof drained);
      (void)got;
    } else {
      std::this_thread::yield();
    }
    take_async();  // without the mutex where it can block
    const std::lock_guard lock(mutex_);
    take_completions();
    take_control();
    deadlines();
  }
}

// ---- completions ------------------------------------------------------------------------------------------------------

void VerbsTransport::Engine::take_completions() {
  ibv_cq* cq = nullptr;
  void* context = nullptr;
  unsigned int events = 0;
  while (ibv_get_cq_event(channel_.get(), &cq, &context) == 0) ++events;
  if (events > 0) {
    ibv_ack_cq_events(cq_.get(), events);
    ibv_req_notify_cq(cq_.get(), 0);  // before polling: what comes later makes a new event
  }
  std::array<ibv_wc, kCompletionsPerPoll> completions{};
  for (int count = 0; (count = ibv_poll_cq(cq_.get(), kCompletionsPerPoll, completions.data())) > 0;) {
    for (int i = 0; i < count; ++i) completion(completions[static_cast<std::size_t>(i)]);
  }
}

void VerbsTransport::Engine::completion(const ibv_wc& wc) {
  ++counters_.completions;
  const auto owner = by_qp_.find(wc.qp_num);
  if (owner == by_qp_.end()) return;  // of a queue pair that is gone
  Peer& peer = peers_.at(owner->second);
  const auto queue = std::find_if(peer.queues.begin(), peer.queues.end(), [&](const Queue& q) { return q.qp->qp_num == wc.qp_num; });
  if (wc.status != IBV_WC_SUCCESS) {
    if (wc.status == IBV_WC_WR_FLUSH_ERR) {
      ++counters_.flushed;
      return;  // the root came before, or comes as an asynchronous event
    }
    if (counters_.first_error.empty()) counters_.first_error = ibv_wc_status_str(wc.status);
    const Cause cause = port_down_ ? Cause::link_down : cause_of(wc.status);
    lose(peer.id, cause, cause);
    return;
  }
  peer.progress = steady_clock::now();
  if (wc.opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
    if (!post_receive(queue->qp.get(), 1)) {
      lose(peer.id, Cause::link_down, Cause::link_down);
      return;
    }
    if (!peer.up) {  // data may overtake the control connection's last word
      peer.peer_ready = true;
      maybe_up(peer);
    }
    book_.notified(peer.id, ntohl(wc.imm_data));
    return;
  }
  // In order on its queue pair: everything up to this chain has left the send queue.
  while (!queue->posted.empty() && queue->posted.front().first <= wc.wr_id) {
    const std::uint64_t chain = queue->posted.front().first;
    queue->used -= queue->posted.front().second;
    queue->posted.pop_front();
    const OpId op = queue->ops.at(chain);
    queue->ops.erase(chain);
    chain_done(peer, op);
  }
  flush_waiting(peer, *queue);
}

void VerbsTransport::Engine::chain_done(Peer& peer, OpId op) {
  const auto it = operations_.find(op);
  if (it == operations_.end() || --it->second.chains_left > 0) return;
  if (it->second.notify) {
    // Striped over queue pairs: only now is every byte there, so only now may the notify go.
    const std::uint32_t tag = *it->second.notify;
    it->second.notify.reset();
    it->second.chains_left = 1;
    post_notify(peer, op, tag);
    return;
  }
  operations_.erase(it);
  --peer.in_flight;
  book_.completed(op);
}

void VerbsTransport::Engine::post_notify(Peer& peer, OpId op, std::uint32_t tag) {
  ibv_send_wr wr{};
  wr.wr_id = ++chains_;
  wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  wr.imm_data = htonl(tag);
  peer.queues[0].waiting.push_back({wr.wr_id, op, {wr}, {}});
  notifies_due_.insert(peer.id);  // posted by deadlines(): here a queue of this peer is being worked on
}

// ---- asynchronous events ----------------------------------------------------------------------------------------------

void VerbsTransport::Engine::take_async() {
  ibv_async_event event{};
  while (ibv_get_async_event(device_.context.get(), &event) == 0) {
    const ibv_event_type type = event.event_type;
    std::uint32_t qp = 0;
    const bool of_qp = type == IBV_EVENT_QP_FATAL || type == IBV_EVENT_QP_REQ_ERR || type == IBV_EVENT_QP_ACCESS_ERR;
    if (of_qp) qp = event.element.qp->qp_num;
    ibv_ack_async_event(&event);  // before anything can wait for it: destroying its queue pair does
    const std::lock_guard lock(mutex_);
    if (of_qp) {
      const auto owner = by_qp_.find(qp);
      const Cause cause = type == IBV_EVENT_QP_FATAL ? Cause::link_down : Cause::protection;
      if (owner != by_qp_.end()) lose(EndpointId{owner->second}, cause, cause);
    } else if (type == IBV_EVENT_PORT_ERR || type == IBV_EVENT_DEVICE_FATAL || type == IBV_EVENT_CQ_ERR) {
      // A lost carrier gives no completion at all: without this, operations would wait for their deadline.
      ++counters_.port_errors;
      port_down_ = type == IBV_EVENT_PORT_ERR;
      const Cause cause = port_down_ ? Cause::link_down : Cause::device_lost;
      std::vector<EndpointId> all;
      for (const auto& [id, peer] : peers_) all.push_back(id);
      for (const EndpointId id : all) lose(id, cause, cause);
    } else if (type == IBV_EVENT_PORT_ACTIVE) {
      port_down_ = false;
    }
  }
}

// ---- control ----------------------------------------------------------------------------------------------------------

void VerbsTransport::Engine::take_control() {
  std::array<TransportEvent, 64> events;
  for (std::size_t count = 0; (count = control_->poll(events)) > 0;) {
    for (std::size_t i = 0; i < count; ++i) {
      if (const auto* up = std::get_if<EndpointUp>(&events[i])) {
        const auto peer = peers_.find(up->peer);
        if (peer != peers_.end()) send_words(peer->second);
      } else if (const auto* told = std::get_if<Notified>(&events[i])) {
        const auto peer = peers_.find(told->from);
        if (peer != peers_.end()) word(peer->second, told->tag);
      } else if (const auto* down = std::get_if<EndpointDown>(&events[i])) {
        lose(down->peer, down->cause, down->cause);  // no effect if it was given up before
        const auto end = ending_.find(down->peer);
        if (end == ending_.end()) continue;
        book_.went_down(down->peer, end->second.first, end->second.second);
        ending_.erase(end);
      }
    }
  }
}

/// 24 bits of QpInfo in each control word: index in the upper 8 bits.
void VerbsTransport::Engine::send_words(const Peer& peer) {
  std::array<std::uint8_t, kInfoWords * 3> bytes{};
  std::memcpy(bytes.data(), &peer.mine, sizeof peer.mine);
  for (std::uint32_t i = 0; i < kInfoWords; ++i) {
    send_word(peer, i, static_cast<std::uint32_t>(bytes[3 * i]) | static_cast<std::uint32_t>(bytes[3 * i + 1]) << 8 | static_cast<std::uint32_t>(bytes[3 * i + 2]) << 16);
  }
}

void VerbsTransport::Engine::send_word(const Peer& peer, std::uint32_t index, std::uint32_t value) {
  const Status sent = control_->post({OpId{++control_ops_}, peer.id, {}, index << 24 | value});
  (void)sent;  // refused: the control connection is down, and its event is on the way
}

void VerbsTransport::Engine::word(Peer& peer, std::uint32_t tag) {
  const std::uint32_t index = tag >> 24;
  if (index == kReadyWord) {
    peer.peer_ready = true;
    maybe_up(peer);
    return;
  }
  if (index >= kInfoWords || peer.connected) return;
  peer.words[index] = tag & 0xffffff;
  if (peer.words.size() < kInfoWords) return;
  std::array<std::uint8_t, kInfoWords * 3> bytes{};
  for (const auto& [i, value] : peer.words) {
    for (std::uint32_t k = 0; k < 3; ++k) bytes[3 * i + k] = static_cast<std::uint8_t>(value >> (8 * k));
  }
  QpInfo theirs;
  std::memcpy(&theirs, bytes.data(), sizeof theirs);
  bool good = theirs.qps == peer.mine.qps && theirs.mtu >= IBV_MTU_256 && theirs.mtu <= IBV_MTU_4096;
  for (std::uint32_t i = 0; good && i < peer.mine.qps; ++i) good = connect_qp(peer.queues[i].qp.get(), device_, settings_, theirs, peer.mine, i);
  if (!good) {
    lose(peer.id, Cause::protection, Cause::protection);
    return;
  }
  peer.connected = true;
  send_word(peer, kReadyWord, 0);
  maybe_up(peer);
}

void VerbsTransport::Engine::maybe_up(Peer& peer) {
  if (peer.up || !peer.connected || !peer.peer_ready) return;
  peer.up = true;
  book_.went_up(peer.id);
}

void VerbsTransport::Engine::deadlines() {
  for (const EndpointId id : std::exchange(notifies_due_, {})) {
    const auto peer = peers_.find(id);
    if (peer != peers_.end()) flush_waiting(peer->second, peer->second.queues[0]);
  }
  const Time now = steady_clock::now();
  std::vector<EndpointId> late;
  for (const auto& [id, peer] : peers_) {
    const bool stuck = peer.up && peer.in_flight > 0 && now - peer.progress > nanoseconds(settings_.transfer_deadline.v);
    if (stuck || (!peer.up && now > peer.connect_deadline)) late.push_back(id);
  }
  for (const EndpointId id : late) lose(id, Cause::timeout, Cause::timeout);
}

}  // namespace faultline::transport

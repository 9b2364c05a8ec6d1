// The progress thread of VerbsTransport: completions, asynchronous events, the control connection, deadlines.
#include <arpa/inet.h>
#include <poll.h>

#include <algorithm>
#include <array>

#include "backend/transport/verbs_engine.h"

namespace faultline::transport {
namespace {
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr int kTimerMs = 20;
constexpr int kCompletionsPerPoll = 32;

/// The first error that is not a flush is the root; flushes are its consequence.
Cause cause_of(ibv_wc_status status) {
  switch (status) {
    case IBV_WC_REM_ACCESS_ERR:
    case IBV_WC_LOC_PROT_ERR: return Cause::protection;
    case IBV_WC_FATAL_ERR: return Cause::device_lost;
    // RETRY_EXC, RNR_RETRY_EXC, LOC_QP_OP_ERR after a port went down; also REM_INV_REQ and REM_OP: what we post is well
    // formed and fits the other end, so a peer that says otherwise received something else (rxe does under loss).
    default: return Cause::link_down;
  }
}

}  // namespace

void VerbsTransport::Engine::run() {
  std::vector<pollfd> fds{{control_->event_descriptor(), POLLIN, 0}, {wake_event_.get(), POLLIN, 0}};
  for (const Rail& rail : rails_) {
    fds.push_back({rail.channel->fd, POLLIN, 0});
    fds.push_back({rail.device.context->async_fd, POLLIN, 0});
  }
  while (!stop_.load()) {
    if (!settings_.polling) {
      ::poll(fds.data(), fds.size(), kTimerMs);
      std::uint64_t drained = 0;
      const ssize_t got = ::read(wake_event_.get(), &drained, sizeof drained);
      (void)got;
    } else {
      std::this_thread::yield();
    }
    for (std::size_t rail = 0; rail < rails_.size(); ++rail) take_async(rail);  // without the mutex where it can block
    const std::lock_guard lock(mutex_);
    for (std::size_t rail = 0; rail < rails_.size(); ++rail) take_completions(rail);
    take_control();
    step_attempts();
    deadlines();
    step_retired(steady_clock::now());
  }
}

// ---- completions
// ------------------------------------------------------------------------------------------------------

void VerbsTransport::Engine::take_completions(std::size_t rail) {
  Rail& device = rails_[rail];
  ibv_cq* cq = nullptr;
  void* context = nullptr;
  unsigned int events = 0;
  while (ibv_get_cq_event(device.channel.get(), &cq, &context) == 0) ++events;
  if (events > 0) {
    ibv_ack_cq_events(device.cq.get(), events);
    ibv_req_notify_cq(device.cq.get(), 0);  // before polling: what comes later makes a new event
  }
  std::array<ibv_wc, kCompletionsPerPoll> completions{};
  for (int count = 0; (count = ibv_poll_cq(device.cq.get(), kCompletionsPerPoll, completions.data())) > 0;) {
    for (int i = 0; i < count; ++i) completion(rail, completions[static_cast<std::size_t>(i)]);
  }
}

void VerbsTransport::Engine::completion(std::size_t rail, const ibv_wc& wc) {
  ++counters_.completions;
  const auto owner = rails_[rail].by_qp.find(wc.qp_num);
  if (owner == rails_[rail].by_qp.end()) {
    drained(rail, wc);
    return;
  }
  Peer& peer = peers_.at(owner->second);
  Link& link = peer.links[rail];
  const auto at = std::find_if(link.queues.begin(), link.queues.end(),
                               [&](const Queue& q) { return q.qp && q.qp->qp_num == wc.qp_num; });
  Queue& queue = *at;
  const bool of_receive =
      wc.wr_id == 0;  // chains count from 1; of a failed completion only id, status and queue pair are valid
  if (of_receive) {
    received(peer, rail, queue, wc);
    return;
  }
  if (wc.status != IBV_WC_SUCCESS) {
    if (wc.status == IBV_WC_WR_FLUSH_ERR) {
      ++counters_.flushed;
      return;  // the root came before, or comes as an asynchronous event
    }
    if (counters_.first_error.empty()) counters_.first_error = ibv_wc_status_str(wc.status);
    fail_link(peer.id, rail, rails_[rail].port_down ? Cause::link_down : cause_of(wc.status));
    return;
  }
  link.progress = steady_clock::now();
  // In order on its queue pair: everything up to this chain has left the send queue.
  const EndpointId id = peer.id;
  const auto index = static_cast<std::size_t>(at - link.queues.begin());
  while (!queue.posted.empty() && queue.posted.front().id <= wc.wr_id) {
    const Chain chain = std::move(queue.posted.front());
    queue.posted.pop_front();
    queue.used -= chain.length();
    if (chain.notify) ++queue.notifies_done;
    if (!chain.probe) chain_done(peer, chain.op);
    else if (--link.probes == 0) link_up(peer, link);
  }
  flush_waiting(id, rail, index);
}

void VerbsTransport::Engine::received(Peer& peer, std::size_t rail, Queue& queue, const ibv_wc& wc) {
  --queue.receives;
  Link& link = peer.links[rail];
  if (wc.status != IBV_WC_SUCCESS) {
    ++counters_.flushed;
    if (link.state != Link::State::fencing && wc.status != IBV_WC_WR_FLUSH_ERR)
      fail_link(peer.id, rail, cause_of(wc.status));
    return;
  }
  link.progress = steady_clock::now();
  ++queue.notifies_in;
  if (link.state == Link::State::connecting) {
    // Data may overtake the control connection's last word and our own probes: theirs were answered by us, so the path
    // carries both ways.
    link.peer_ready = true;
    link_up(peer, link);
  }
  book_.notified(peer.id, ntohl(wc.imm_data));
  if (link.state != Link::State::fencing && !post_receive(queue, 1)) fail_link(peer.id, rail, Cause::link_down);
}

void VerbsTransport::Engine::chain_done(Peer& peer, OpId op) {
  const auto it = operations_.find(op);
  if (it == operations_.end() || --it->second.chains_left > 0) return;
  if (it->second.notify) {
    // Striped over queue pairs: only now is every byte there, so only now may the notify go, with a write of its own.
    std::size_t rail = 0, index = 0;
    Queue* queue = usable_queue(peer, rail, index);
    FAULTLINE_ASSERT(queue != nullptr, "peer {} is up without a rail", peer.id.v);
    queue->waiting.push_back(
        {.id = 0, .op = op, .requests = {}, .sges = {}, .notify = std::exchange(it->second.notify, std::nullopt)});
    it->second.chains_left = 1;
    notifies_due_.insert(peer.id);  // posted by deadlines(): here a queue of this peer is being worked on
    return;
  }
  operations_.erase(it);
  book_.completed(op);
}

// ---- asynchronous events
// ----------------------------------------------------------------------------------------------

void VerbsTransport::Engine::take_async(std::size_t rail) {
  ibv_async_event event{};
  while (ibv_get_async_event(rails_[rail].device.context.get(), &event) == 0) {
    const ibv_event_type type = event.event_type;
    std::uint32_t qp = 0;
    const bool of_qp = type == IBV_EVENT_QP_FATAL || type == IBV_EVENT_QP_REQ_ERR || type == IBV_EVENT_QP_ACCESS_ERR;
    if (of_qp) qp = event.element.qp->qp_num;
    ibv_ack_async_event(&event);  // before anything can wait for it: destroying its queue pair does
    const std::lock_guard lock(mutex_);
    if (of_qp) {
      const auto owner = rails_[rail].by_qp.find(qp);
      if (owner != rails_[rail].by_qp.end())
        fail_link(EndpointId{owner->second}, rail, type == IBV_EVENT_QP_FATAL ? Cause::link_down : Cause::protection);
    } else if (type == IBV_EVENT_PORT_ERR || type == IBV_EVENT_DEVICE_FATAL || type == IBV_EVENT_CQ_ERR) {
      // A lost carrier gives no completion at all: without this, operations would wait for their deadline.
      ++counters_.port_errors;
      rails_[rail].port_down = true;  // of a device or completion queue that is broken: for good
      const Cause cause = type == IBV_EVENT_PORT_ERR ? Cause::link_down : Cause::device_lost;
      std::vector<EndpointId> all;
      for (const auto& [id, peer] : peers_) all.push_back(id);
      for (const EndpointId id : all) fail_link(id, rail, cause);
    } else if (type == IBV_EVENT_PORT_ACTIVE) {
      rails_[rail].port_down = false;
    }
  }
}

void VerbsTransport::Engine::deadlines() {
  for (const EndpointId id : std::exchange(notifies_due_, {})) {
    for (std::size_t rail = 0; rail < rails_.size(); ++rail) {
      for (std::size_t queue = 0; queue < settings_.qps; ++queue) flush_waiting(id, rail, queue);
    }
  }
  const Time now = steady_clock::now();
  std::vector<EndpointId> all;
  for (const auto& [id, peer] : peers_) all.push_back(id);
  for (const EndpointId id : all) {
    const auto it = peers_.find(id);
    if (it == peers_.end()) continue;
    if (!it->second.up && now > it->second.connect_deadline) lose(id, Cause::timeout, Cause::timeout);
    else step_links(it->second, now);
  }
}

}  // namespace faultline::transport

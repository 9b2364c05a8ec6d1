// The life of a rail towards a peer: made, connected, failed, fenced at both ends, its unfinished chains moved to
// another rail, and tried again after a pause.
//
// A chain may only move when nothing of it can arrive any more, and its notify only if it has not been received: both
// ends put their queue pairs into the error state, take every completion that is left, destroy them, and then say how
// many notifies each of them had received. Requests arrive in order, so that number tells exactly which chains are
// done.
#include <arpa/inet.h>

#include <algorithm>

#include "backend/transport/net.h"
#include "backend/transport/verbs_engine.h"

namespace faultline::transport {
namespace {
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr std::uint32_t kCounterMask = 0xffffff;  // notifies outstanding on a queue pair are far fewer

ibv_mtu mtu_enum(std::uint32_t bytes) {
  if (bytes >= 4096) return IBV_MTU_4096;
  if (bytes >= 2048) return IBV_MTU_2048;
  if (bytes >= 1024) return IBV_MTU_1024;
  return bytes >= 512 ? IBV_MTU_512 : IBV_MTU_256;
}

}  // namespace

bool VerbsTransport::Engine::Link::busy() const {
  return std::any_of(queues.begin(), queues.end(), [](const Queue& queue) { return !queue.posted.empty(); });
}

bool VerbsTransport::Engine::start_link(Peer& peer, std::size_t rail, std::uint32_t epoch) {
  Rail& device = rails_[rail];
  Link& link = peer.links[rail];
  forget_queues(peer.id, rail, link);
  link = Link{};
  link.state = Link::State::connecting;
  link.epoch = epoch;
  link.since = steady_clock::now();
  link.mine.qps = settings_.qps;
  link.mine.mtu = std::min(mtu_enum(settings_.mtu), device.device.port.active_mtu);
  link.mine.lid = device.device.port.lid;
  link.mine.gid = device.device.gid;
  link.queues.resize(settings_.qps);
  for (std::uint32_t i = 0; i < settings_.qps; ++i) {
    Queue& queue = link.queues[i];
    // A peer sends at most its bound of notifies before it hears from us; every receive is given back at once.
    queue.qp = make_qp(device.pd.get(), device.cq.get(), settings_, settings_.ops_in_flight_max);
    if (!queue.qp || !post_receive(queue, settings_.ops_in_flight_max)) return false;
    device.by_qp[queue.qp->qp_num] = peer.id;
    link.mine.one[i] = {queue.qp->qp_num, random_value<std::uint32_t>() & 0xffffff};
  }
  return true;
}

void VerbsTransport::Engine::connect_link(Peer& peer, std::size_t rail, std::uint32_t epoch, const QpInfo& theirs) {
  Link& link = peer.links[rail];
  const bool again = epoch > link.epoch && (link.state == Link::State::paused || link.state == Link::State::connecting);
  if (again) {
    if (rails_[rail].port_down) return;  // their attempt ends by itself
    if (!start_link(peer, rail, epoch)) {
      forget_queues(peer.id, rail, link);
      link.state = Link::State::paused;
      return;
    }
    say(peer, Say::queue_pairs, rail, &link.mine, sizeof link.mine);
  }
  if (epoch != link.epoch || link.state != Link::State::connecting || link.connected || link.attempt) return;
  if (theirs.qps != link.mine.qps || theirs.mtu < IBV_MTU_256 || theirs.mtu > IBV_MTU_4096) {
    lose(peer.id, Cause::protection, Cause::protection);
    return;
  }
  begin_attempt(peer, rail, theirs);
}

/// Queue pairs connect over the control connection, also where the rail itself carries nothing. So each sends an empty
/// write first: a rail that took its word for it would come "up" again and again while another one fails, and
/// operations would wander between two dead rails for ever.
void VerbsTransport::Engine::maybe_probe(Peer& peer, std::size_t rail) {
  Link& link = peer.links[rail];
  if (link.state != Link::State::connecting || !link.connected || !link.peer_ready || link.probes > 0) return;
  link.probes = static_cast<std::uint32_t>(link.queues.size());
  const EndpointId id = peer.id;
  for (std::size_t i = 0; i < link.queues.size(); ++i) {
    link.queues[i].waiting.push_back({.id = 0, .op = {}, .requests = {}, .sges = {}, .notify = {}, .probe = true});
    flush_waiting(id, rail, i);
    if (!peers_.contains(id) || link.state != Link::State::connecting) return;
  }
}

void VerbsTransport::Engine::link_up(Peer& peer, Link& link) {
  if (link.state != Link::State::connecting) return;
  link.state = Link::State::up;
  link.progress = link.since = steady_clock::now();
  if (link.epoch > 1) ++counters_.rails_back;
  if (peer.up) return;
  peer.up = true;
  book_.went_up(peer.id);
}

bool VerbsTransport::Engine::post_receive(Queue& queue, std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    ibv_recv_wr receive{};
    ibv_recv_wr* bad = nullptr;
    if (ibv_post_recv(queue.qp.get(), &receive, &bad) != 0) return false;
    ++queue.receives;
  }
  return true;
}

/// From here on nothing is taken from or given to the link's queue pairs.
void VerbsTransport::Engine::forget_queues(EndpointId peer, std::size_t rail, Link& link) {
  if (link.attempt) {
    abandon(link);
    return;
  }
  for (Queue& queue : link.queues) {
    if (queue.qp) retire(peer, rail, queue);
  }
  link.queues.clear();
}

/// A queue of a rail that is up; the next in turn. nullptr if no rail is.
VerbsTransport::Engine::Queue* VerbsTransport::Engine::usable_queue(Peer& peer, std::size_t& rail, std::size_t& queue) {
  for (std::size_t tries = 0; tries < peer.links.size(); ++tries) {
    const std::uint32_t turn = peer.rotation++;
    rail = turn % peer.links.size();
    Link& link = peer.links[rail];
    if (link.state != Link::State::up) continue;
    queue = turn / peer.links.size() % link.queues.size();
    return &link.queues[queue];
  }
  return nullptr;
}

/// A rail of the peer does not work. With another one up the peer stays and this one is fenced; without, the peer is
/// lost.
void VerbsTransport::Engine::fail_link(EndpointId id, std::size_t rail, Cause cause) {
  const auto it = peers_.find(id);
  if (it == peers_.end()) return;
  Peer& peer = it->second;
  Link& link = peer.links[rail];
  if (link.state == Link::State::paused || link.state == Link::State::fencing) return;
  bool another = false;
  for (std::size_t i = 0; i < peer.links.size(); ++i)
    another = another || (i != rail && peer.links[i].state == Link::State::up);
  // While the first rails are being made, any of them may still come.
  if (!peer.up)
    another = std::any_of(peer.links.begin(), peer.links.end(),
                          [&](const Link& l) { return &l != &link && l.state == Link::State::connecting; });
  if (!another || cause == Cause::protection) {
    lose(id, cause, cause);
    return;
  }
  ++counters_.rails_lost;
  say(peer, Say::fence, rail);
  fence(peer, rail, cause);
}

void VerbsTransport::Engine::fence(Peer& peer, std::size_t rail, Cause cause) {
  Link& link = peer.links[rail];
  link.state = Link::State::fencing;
  link.cause = cause;
  link.since = steady_clock::now();
  if (!link.attempt) stop_queues(peer, rail);  // else when its thread is done with them
}

void VerbsTransport::Engine::stop_queues(Peer& peer, std::size_t rail) {
  Link& link = peer.links[rail];
  for (Queue& queue : link.queues) {
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_ERR;
    if (ibv_modify_qp(queue.qp.get(), &attr, IBV_QP_STATE) != 0) {
      const Cause cause = link.cause;
      lose(peer.id, cause, cause);
      return;
    }
  }
  wake();
}

/// Once every receive has come back (used or flushed) nothing of this incarnation lands any more.
void VerbsTransport::Engine::step_fence(Peer& peer, std::size_t rail) {
  Link& link = peer.links[rail];
  if (link.state != Link::State::fencing || link.attempt) return;
  if (!link.fenced_here) {
    if (std::any_of(link.queues.begin(), link.queues.end(), [](const Queue& queue) { return queue.receives > 0; }))
      return;
    std::vector<std::uint32_t> counts;
    for (Queue& queue : link.queues) {
      counts.push_back(queue.notifies_in & kCounterMask);
      retire(peer.id, rail, queue);
    }
    link.fenced_here = true;
    say(peer, Say::fenced, rail, counts.data(), counts.size() * sizeof counts[0]);
  }
  if (link.fenced_there) resolve(peer, rail);
}

/// Both ends are fenced: what has arrived is done, the rest goes to another rail.
void VerbsTransport::Engine::resolve(Peer& peer, std::size_t rail) {
  Link& link = peer.links[rail];
  std::vector<Queue> queues = std::move(link.queues);
  const std::vector<std::uint32_t> counts = *link.fenced_there;
  const Cause cause = link.cause;
  const std::uint32_t epoch = link.epoch;
  link = Link{};
  link.epoch = epoch;
  link.since = steady_clock::now();
  const EndpointId id = peer.id;
  std::vector<OpId> done;
  for (std::size_t i = 0; i < queues.size(); ++i) {
    Queue& queue = queues[i];
    for (auto* list : {&queue.posted, &queue.waiting}) std::erase_if(*list, [](const Chain& c) { return c.probe; });
    std::uint32_t arrived = i < counts.size() ? (counts[i] - queue.notifies_done) & kCounterMask : 0;
    std::size_t finished = 0;  // chains that are known to have arrived
    for (std::size_t k = 0; arrived > 0 && k < queue.posted.size(); ++k) {
      if (!queue.posted[k].notify) continue;
      --arrived;
      finished = k + 1;
    }
    if (arrived > 0) {  // more than we ever sent
      lose(id, Cause::protection, Cause::protection);
      return;
    }
    for (; finished > 0; --finished) {
      done.push_back(queue.posted.front().op);
      queue.posted.pop_front();
    }
    std::size_t to_rail = 0, to_queue = 0;
    Queue* target = usable_queue(peer, to_rail, to_queue);
    const bool any = !queue.posted.empty() || !queue.waiting.empty();
    if (!target && any) {
      lose(id, cause, cause);
      return;
    }
    if (!any) continue;
    counters_.chains_moved += queue.posted.size() + queue.waiting.size();
    if (!peer.links[to_rail].busy()) peer.links[to_rail].progress = steady_clock::now();
    for (auto* list : {&queue.posted, &queue.waiting}) {
      for (Chain& chain : *list) target->waiting.push_back(std::move(chain));
    }
    flush_waiting(id, to_rail, to_queue);
    if (!peers_.contains(id)) return;
  }
  for (const OpId op : done) chain_done(peer, op);
}

/// Pauses that are over, attempts and fences that take too long.
void VerbsTransport::Engine::step_links(Peer& peer, Time now) {
  const EndpointId id = peer.id;
  for (std::size_t rail = 0; rail < peer.links.size(); ++rail) {
    Link& link = peer.links[rail];
    const auto age = now - link.since;
    switch (link.state) {
      case Link::State::up: {
        if (link.busy() && now - link.progress > nanoseconds(settings_.transfer_deadline.v))
          fail_link(id, rail, Cause::timeout);
        break;
      }
      case Link::State::fencing:
        step_fence(peer, rail);
        if (peers_.contains(id) && link.state == Link::State::fencing &&
            age > nanoseconds(settings_.transfer_deadline.v))
          lose(id, link.cause, link.cause);
        break;
      case Link::State::connecting:
        // Before the peer is up its own deadline counts.
        if (peer.up && age > nanoseconds(settings_.control.connect_timeout.v)) fail_link(id, rail, Cause::timeout);
        break;
      case Link::State::paused:
        // One of the two tries; the other follows its call.
        if (!peer.up || rails_[rail].port_down || identity_ > peer.identity ||
            age < nanoseconds(settings_.rail_pause.v))
          break;
        if (start_link(peer, rail, link.epoch + 1)) {
          say(peer, Say::queue_pairs, rail, &link.mine, sizeof link.mine);
        } else {
          forget_queues(id, rail, link);
          link.state = Link::State::paused;
          link.since = now;
        }
        break;
    }
    if (!peers_.contains(id)) return;
  }
}

/// First the queue pairs, so that nothing is read or written for this peer any more; then the ends of its operations,
/// which wait for the queue pairs to be drained and for the control connection to be gone, so that the peer can be
/// opened again when EndpointDown is seen.
void VerbsTransport::Engine::lose(EndpointId id, Cause op_cause, Cause down_cause) {
  const auto it = peers_.find(id);
  if (it == peers_.end()) return;
  for (std::size_t rail = 0; rail < it->second.links.size(); ++rail) forget_queues(id, rail, it->second.links[rail]);
  peers_.erase(it);
  std::erase_if(operations_, [id](const auto& entry) { return entry.second.peer == id; });
  std::erase_if(remote_keys_, [id](const auto& entry) { return entry.second.owner == id; });
  book_.closing(id);
  ending_[id] = {.of_operations = op_cause, .of_peer = down_cause};
  control_->close(id);
  wake();
}

}  // namespace faultline::transport

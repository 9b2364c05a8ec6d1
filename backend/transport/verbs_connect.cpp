// Queue pairs are connected by a thread of their own: the kernel resolves the peer's address meanwhile, which takes up
// to a second where nobody answers for it. Nothing else may wait so long, neither posting nor the other peers. One
// thread an attempt, so that a dead address does not hold up the living ones; there is at most one a rail and peer.
#include <system_error>

#include "backend/transport/verbs_engine.h"

namespace faultline::transport {

void VerbsTransport::Engine::begin_attempt(Peer& peer, std::size_t rail, const QpInfo& theirs) {
  Link& link = peer.links[rail];
  Attempt& attempt = attempts_.emplace_back();
  attempt.peer = peer.id;
  attempt.rail = rail;
  std::vector<ibv_qp*> qps;
  for (const Queue& queue : link.queues) qps.push_back(queue.qp.get());
  const auto connect = [this, &attempt, qps = std::move(qps), theirs, mine = link.mine] {
    bool connected = true;
    for (std::uint32_t i = 0; connected && i < mine.qps; ++i)
      connected = connect_qp(qps[i], rails_[attempt.rail].device, settings_, theirs, mine, i);
    const std::lock_guard lock(mutex_);
    attempt.connected = connected;
    attempt.done = true;
    wake();
  };
  try {
    attempt.thread = std::thread(connect);
    link.attempt = &attempt;
  } catch (const std::system_error&) {
    attempts_.pop_back();
    fail_link(peer.id, rail, Cause::overload);
  }
}

/// The link is given up while its queue pairs are being connected: they go when the thread is done with them. Nobody
/// waits for that: the peer sends nothing before it has heard `ready`, which is never said of them.
void VerbsTransport::Engine::abandon(Link& link) {
  for (const Queue& queue : link.queues) rails_[link.attempt->rail].by_qp.erase(queue.qp->qp_num);
  link.attempt->orphans = std::move(link.queues);
  link.attempt = nullptr;
}

void VerbsTransport::Engine::step_attempts() {
  for (auto it = attempts_.begin(); it != attempts_.end();) {
    if (!it->done) {
      ++it;
      continue;
    }
    it->thread.join();  // it has nothing left to do
    Attempt attempt = std::move(*it);
    it = attempts_.erase(it);
    if (!attempt.orphans.empty()) {
      for (Queue& queue : attempt.orphans) retire(attempt.peer, attempt.rail, queue);
      continue;
    }
    Peer& peer = peers_.at(attempt.peer);  // given up, its queue pairs would be orphans
    Link& link = peer.links[attempt.rail];
    link.attempt = nullptr;
    if (link.state == Link::State::fencing) {
      stop_queues(peer, attempt.rail);
    } else if (!attempt.connected) {
      // Refused also where no neighbour answers for the address any more: the path is down, the peer did nothing wrong.
      fail_link(peer.id, attempt.rail, Cause::link_down);
    } else {
      link.connected = true;
      say(peer, Say::ready, attempt.rail);
      maybe_probe(peer, attempt.rail);
    }
  }
}

}  // namespace faultline::transport

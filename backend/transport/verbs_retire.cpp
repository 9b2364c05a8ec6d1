// Queue pairs that are given up. Destroying one can take seconds: rxe waits until its last packet has left, and packets
// wait three seconds for a neighbour that does not answer. Nothing else may wait so long, neither the operations nor
// the other peers. So a queue pair is put into the error state, where it neither sends nor accepts anything, its
// completions are taken until the last has come, which ends its use of memory, and a thread of its own destroys it.
#include <algorithm>

#include "backend/transport/verbs_engine.h"

namespace faultline::transport {
namespace {

constexpr std::uint64_t kDrainMark = ~std::uint64_t{0};  // chains count from 1, receives are 0
constexpr std::chrono::milliseconds kDrainMax{100};      // flushing takes well below a millisecond

}  // namespace

void VerbsTransport::Engine::retire(EndpointId peer, std::size_t rail, Queue& queue) {
  ibv_qp_attr error{};
  error.qp_state = IBV_QPS_ERR;
  ibv_send_wr mark{};
  ibv_send_wr* bad = nullptr;
  mark.wr_id = kDrainMark;
  mark.opcode = IBV_WR_RDMA_WRITE;
  mark.send_flags = IBV_SEND_SIGNALED;
  Retired retired;
  retired.drainable =
      ibv_modify_qp(queue.qp.get(), &error, IBV_QP_STATE) == 0 && ibv_post_send(queue.qp.get(), &mark, &bad) == 0;
  retired.mark = retired.drainable;
  rails_[rail].by_qp.erase(queue.qp->qp_num);
  retired.peer = peer;
  retired.rail = rail;
  retired.qp = std::move(queue.qp);
  retired.receives = queue.receives;
  retired.since = std::chrono::steady_clock::now();
  retired_.push_back(std::move(retired));
  ++retiring_[peer];
  wake();
}

/// A completion of a queue pair that is not of a link any more.
void VerbsTransport::Engine::drained(std::size_t rail, const ibv_wc& wc) {
  const auto at = std::find_if(retired_.begin(), retired_.end(),
                               [&](const Retired& r) { return r.rail == rail && r.qp->qp_num == wc.qp_num; });
  if (at == retired_.end()) return;  // it is being destroyed
  if (wc.wr_id == kDrainMark) at->mark = false;
  else if (wc.wr_id == 0 && at->receives > 0) --at->receives;
}

/// One queue pair less that the end of the peer waits for.
void VerbsTransport::Engine::retired_one(EndpointId peer) {
  const auto count = retiring_.find(peer);
  if (--count->second == 0) retiring_.erase(count);
}

void VerbsTransport::Engine::step_retired(Time now) {
  std::vector<Retired> draining;
  for (Retired& r : retired_) {
    const bool empty = r.drainable && !r.mark && r.receives == 0;
    if (!empty && r.drainable && now - r.since < kDrainMax) {
      draining.push_back(std::move(r));
      continue;
    }
    Doomed one;
    one.qp = std::move(r.qp);
    if (empty) retired_one(r.peer);
    else one.waits = r.peer;
    doomed_.push_back(std::move(one));
    destroy_wake_.notify_one();
  }
  retired_ = std::move(draining);
  finish_endings();
}

void VerbsTransport::Engine::finish_endings() {
  std::erase_if(ending_, [&](const auto& entry) {
    const auto& [peer, ending] = entry;
    if (!ending.control_gone || retiring_.contains(peer)) return false;
    book_.went_down(peer, ending.of_operations, ending.of_peer);
    return true;
  });
}

void VerbsTransport::Engine::destroy() {
  std::unique_lock lock(mutex_);
  while (!stop_.load()) {
    if (doomed_.empty()) {
      destroy_wake_.wait(lock);
      continue;
    }
    std::vector<Doomed> now = std::exchange(doomed_, {});
    destroying_ = now.size();
    lock.unlock();
    for (Doomed& one : now) one.qp.reset();
    lock.lock();
    destroying_ = 0;
    for (const Doomed& one : now)
      if (one.waits) retired_one(*one.waits);
    wake();
  }
}

}  // namespace faultline::transport

#include "backend/ep/all_reduce.h"

#include <algorithm>
#include <cstring>

#include "core/base/assert.h"

namespace faultline::ep {

std::size_t AllReduce::window_bytes(const AllReduceSettings& s) {
  return std::size_t{2} * (s.ranks + 1) * s.length_max * sizeof(float);
}

AllReduce::AllReduce(const AllReduceSettings& settings, Transport& transport, std::span<std::byte> window,
                     RegionId local, std::vector<EndpointId> peers, std::vector<RegionId> windows,
                     std::function<OpId()> next_op)
    : s_(settings),
      transport_(&transport),
      window_(window),
      local_(local),
      peers_(std::move(peers)),
      windows_(std::move(windows)),
      next_op_(std::move(next_op)) {
  FAULTLINE_ASSERT(s_.ranks > 0 && s_.ranks <= 64 && s_.rank < s_.ranks && window_.size() >= window_bytes(s_),
                   "ranks={} window={}", s_.ranks, window_.size());
}

/// rank == ranks: the outgoing slot. Two parities: nobody starts step n+2 before all living ranks have sent step n+1,
/// which they do after they have read step n.
std::size_t AllReduce::slot(std::uint64_t step, std::uint32_t rank) const {
  return (step % 2 * (s_.ranks + 1) + rank) * s_.length_max * sizeof(float);
}

void AllReduce::start(Instant now, std::span<const float> part) {
  FAULTLINE_ASSERT(!running_ && part.size() <= s_.length_max, "length={}", part.size());
  ++step_;
  running_ = true;
  deadline_ = now + s_.wait_max;
  own_.assign(part.begin(), part.end());
  here_ = std::exchange(early_, {});
  const std::size_t out = slot(step_, s_.ranks);
  const bool reused = std::any_of(in_flight_.begin(), in_flight_.end(),
                                  [this](const auto& entry) { return entry.second + 2 <= step_; });
  if (reused) {  // a peer has not taken what is two steps old: its writes must end before the source changes
    for (std::uint32_t rank = 0; rank < s_.ranks; ++rank) {
      if (rank != s_.rank && alive(rank) && !here_.contains(rank)) dead_ |= 1ULL << rank;
    }
  }
  const auto bytes = static_cast<std::int64_t>(part.size_bytes());
  if (!reused && !part.empty()) std::memcpy(window_.data() + out, part.data(), part.size_bytes());
  for (std::uint32_t rank = 0; rank < s_.ranks && !reused; ++rank) {
    if (rank == s_.rank || !alive(rank)) continue;
    const OpId op = next_op_();
    const Status status = transport_->post({op,
                                            peers_[rank],
                                            {{local_,
                                              {static_cast<std::int64_t>(out)},
                                              windows_[rank],
                                              {static_cast<std::int64_t>(slot(step_, s_.rank))},
                                              {bytes}}},
                                            static_cast<std::uint32_t>(step_)});
    if (status) in_flight_[op] = step_;
    else dead_ |= 1ULL << rank;
  }
  finish_if_complete();
}

void AllReduce::finish_if_complete() {
  if (!running_) return;
  for (std::uint32_t rank = 0; rank < s_.ranks; ++rank) {
    if (rank != s_.rank && alive(rank) && !here_.contains(rank)) return;
  }
  result_.assign(own_.size(), 0.0F);
  whole_ = true;
  std::vector<float> part(own_.size());
  for (std::uint32_t rank = 0; rank < s_.ranks; ++rank) {
    if (rank != s_.rank && !here_.contains(rank)) {
      whole_ = false;
      continue;
    }
    if (rank == s_.rank) part = own_;
    else if (!part.empty()) std::memcpy(part.data(), window_.data() + slot(step_, rank), part.size() * sizeof(float));
    for (std::size_t i = 0; i < part.size(); ++i) result_[i] += part[i];
  }
  running_ = false;
}

void AllReduce::tick(Instant now) {
  if (!running_ || now < deadline_) return;
  for (std::uint32_t rank = 0; rank < s_.ranks; ++rank) {
    if (rank != s_.rank && !here_.contains(rank)) dead_ |= 1ULL << rank;
  }
  finish_if_complete();
}

void AllReduce::handle(const TransportEvent& event) {
  const auto rank_at = [this](EndpointId peer) {
    std::uint32_t rank = 0;
    while (rank < s_.ranks && (rank == s_.rank || peers_[rank] != peer)) ++rank;
    return rank;
  };
  if (const auto* told = std::get_if<Notified>(&event)) {
    const std::uint32_t rank = rank_at(told->from);
    if (rank == s_.ranks || !alive(rank)) return;
    if (told->tag == static_cast<std::uint32_t>(step_) && running_) here_.insert(rank);
    else if (told->tag == static_cast<std::uint32_t>(step_ + 1)) early_.insert(rank);
  } else if (const auto* down = std::get_if<EndpointDown>(&event)) {
    const std::uint32_t rank = rank_at(down->peer);
    if (rank < s_.ranks) dead_ |= 1ULL << rank;
  } else if (const auto* done = std::get_if<OpCompleted>(&event)) {
    in_flight_.erase(done->op);
  } else if (const auto* lost = std::get_if<OpFailed>(&event)) {
    in_flight_.erase(lost->op);
  }
  finish_if_complete();
}

}  // namespace faultline::ep

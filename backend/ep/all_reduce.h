// Sum of a vector over the ranks of a tensor-parallel group, over a Transport: each rank writes its part to every other
// (one shot), then all add in order of rank, so that every rank has the same bits. A rank that does not answer within
// wait_max is left out, the result is marked, and nobody waits for it again. Sans-IO; one owner thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "core/base/quantity.h"
#include "core/ports/transport.h"

namespace faultline::ep {

struct AllReduceSettings {
  std::uint32_t ranks = 1;  // at most 64
  std::uint32_t rank = 0;
  std::uint32_t length_max = 1;  // floats
  Duration wait_max{100'000'000};
};

class AllReduce {
 public:
  /// Of the window on each rank: two parities of incoming vectors, then two of the own.
  static std::size_t window_bytes(const AllReduceSettings& settings);
  /// As Exchange: peers[r] and windows[r] of rank r, own entries unused. The transport's notifies are this object's
  /// alone.
  AllReduce(const AllReduceSettings& settings, Transport& transport, std::span<std::byte> window, RegionId local,
            std::vector<EndpointId> peers, std::vector<RegionId> windows, std::function<OpId()> next_op);

  /// Every rank calls it the same number of times with the same length (<= length_max, asserted).
  void start(Instant now, std::span<const float> part);
  bool done() const { return !running_; }
  /// Sum over the ranks that answered. Valid until the next start().
  const std::vector<float>& result() const { return result_; }
  /// True if every rank's part is in it.
  bool whole() const { return whole_; }
  std::uint64_t dead() const { return dead_; }

  void handle(const TransportEvent& event);
  void tick(Instant now);
  Instant next_deadline() const { return running_ ? deadline_ : kNever; }

 private:
  std::size_t slot(std::uint64_t step, std::uint32_t rank) const;
  bool alive(std::uint32_t rank) const { return (dead_ >> rank & 1) == 0; }
  void finish_if_complete();

  AllReduceSettings s_;
  Transport* transport_;
  std::span<std::byte> window_;
  RegionId local_;
  std::vector<EndpointId> peers_;
  std::vector<RegionId> windows_;
  std::function<OpId()> next_op_;
  std::uint64_t step_ = 0;
  bool running_ = false;
  bool whole_ = true;
  Instant deadline_ = kNever;
  std::uint64_t dead_ = 0;
  std::vector<float> own_;
  std::vector<float> result_;
  std::set<std::uint32_t> here_;
  std::set<std::uint32_t> early_;            // parts of the next step
  std::map<OpId, std::uint64_t> in_flight_;  // op -> step whose outgoing slot it reads
};

}  // namespace faultline::ep

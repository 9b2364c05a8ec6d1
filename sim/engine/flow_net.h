// FlowNet: the max-min fair network. The only place that includes SimGrid, which supplies the sharing of links among
// flows with explicit paths; failures, routes and detection are ours. See notes in flow_net.cpp for the settings.
//
// One FlowNet per process (SimGrid's engine is a singleton whose clock is never reset): a second run forks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/base/quantity.h"
#include "core/topology/graph.h"

namespace faultline::sim {

using FlowId = std::uint64_t;

class FlowNet {
 public:
  /// capacity[i]: nominal bytes/s of directed link i.
  explicit FlowNet(std::span<const BytesPerSecond> capacity);
  ~FlowNet();
  FlowNet(const FlowNet&) = delete;
  FlowNet& operator=(const FlowNet&) = delete;

  /// Moves `bytes` over every link of `path` at the flow's max-min rate; the first byte waits for `latency`. Every link
  /// must be able to carry (capacity > 0). Ends in done() unless canceled.
  FlowId start(std::span<const topology::LinkIndex> path, Bytes bytes, Duration latency);
  /// Gives it up; done() is not called for it.
  void cancel(FlowId id);
  /// What is left of a running flow.
  Bytes remaining(FlowId id) const;
  /// Effective capacity from now on, in (0, nominal].
  void set_capacity(topology::LinkIndex link, BytesPerSecond effective);
  std::uint64_t started() const;
  std::size_t running() const;

  /// Runs until nothing is left to do. `next`: the time of the owner's earliest own event (kNever = none); `handle` is
  /// called at that time, and `done` with the flows that ended at one instant, in the order of their ids. Where a flow ends
  /// within a nanosecond of an own event, either may come first; one seed always gives the same order.
  void run(const std::function<Instant()>& next, const std::function<void(Instant)>& handle,
           const std::function<void(Instant, std::span<const FlowId>)>& done);
  /// Call after the owner's earliest event may have become earlier than it was (from inside handle or done).
  void rearm();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace faultline::sim

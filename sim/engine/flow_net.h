// FlowNet: the max-min fair network. SimGrid supplies the sharing of links among flows with explicit paths; failures,
// routes and detection are ours. simgrid_net.cpp is the only file that includes SimGrid; it is a module of its own,
// opened by the first open(), because loading SimGrid and what it brings costs a process some 15 ms.
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
  /// capacity[i]: nominal bytes/s of directed link i. Throws std::runtime_error where the module is missing.
  static std::unique_ptr<FlowNet> open(std::span<const BytesPerSecond> capacity);
  virtual ~FlowNet() = default;
  FlowNet(const FlowNet&) = delete;
  FlowNet& operator=(const FlowNet&) = delete;

  /// Moves `bytes` over every link of `path` at the flow's max-min rate; the first byte waits for `latency`. Every link
  /// must be able to carry (capacity > 0). Ends in done() unless canceled.
  virtual FlowId start(std::span<const topology::LinkIndex> path, Bytes bytes, Duration latency) = 0;
  /// Gives it up; done() is not called for it.
  virtual void cancel(FlowId id) = 0;
  /// What is left of a running flow.
  virtual Bytes remaining(FlowId id) const = 0;
  /// Effective capacity from now on, in (0, nominal].
  virtual void set_capacity(topology::LinkIndex link, BytesPerSecond effective) = 0;
  virtual std::uint64_t started() const = 0;
  virtual std::size_t running() const = 0;

  /// Runs until nothing is left to do. `next`: the time of the owner's earliest own event (kNever = none); `handle` is
  /// called at that time, and `done` with the flows that ended at one instant, in the order of their ids. Where a flow
  /// ends within a nanosecond of an own event, either may come first; one seed always gives the same order.
  virtual void run(const std::function<Instant()>& next, const std::function<void(Instant)>& handle,
                   const std::function<void(Instant, std::span<const FlowId>)>& done) = 0;
  /// The same up to `end`, for owners that look in between (a port that is polled); may be called again and again.
  virtual void run_until(Instant end, const std::function<Instant()>& next, const std::function<void(Instant)>& handle,
                         const std::function<void(Instant, std::span<const FlowId>)>& done) = 0;
  /// Call after the owner's earliest event may have become earlier than it was (from inside handle or done).
  virtual void rearm() = 0;

 protected:
  FlowNet() = default;
};

}  // namespace faultline::sim

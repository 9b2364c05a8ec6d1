// Transport in simulated time: sessions and bookkeeping as in-process (core/ports/fabric.h), bytes as flows on the
// max-min network between the places of the two transports, late failures by the write engine that carries the world's
// KV pushes.
#pragma once

#include <map>
#include <vector>

#include "core/base/hash.h"
#include "core/ports/clock.h"
#include "core/ports/fabric.h"
#include "core/topology/paths.h"
#include "sim/engine/event_queue.h"
#include "sim/engine/write_engine.h"

namespace faultline::sim {

using SimTransport = ports::FabricTransport;

class SimFabric final : public ports::Fabric, private WriteEngine::Owner {
 public:
  /// limits.failure_budget is the retransmission budget. Events of `kind` in `queue` are this fabric's: their owner
  /// hands each to due(), what FlowNet reports to flows_done(), and calls links_changed() after a change of `links`.
  SimFabric(const Clock& clock, EventQueue& queue, std::uint32_t kind, FlowNet& net, const topology::PathTable& paths,
            const topology::LinkState& links, const ports::FabricSettings& settings)
      : ports::Fabric(settings),
        clock_(&clock),
        queue_(&queue),
        kind_(kind),
        paths_(&paths),
        links_(&links),
        writes_(*this, net, paths, links, settings.limits.failure_budget) {}

  /// Where a transport's memory is; before anybody posts to or from it. Two transports have two places.
  void place(const SimTransport& transport, topology::NodeGpu where) { places_[transport.number()] = where; }
  void due(const QueuedEvent& e) {
    if (e.token == 0) Fabric::due(e.index);
    else writes_.due(e.index, e.token);
  }
  void flows_done(std::span<const FlowId> flows) { writes_.flows_done(flows); }
  void links_changed() { writes_.links_changed(); }

 private:
  struct Flight {
    Number from = 0, to = 0;
    Bytes bytes;
    WriteEngine::Write write = WriteEngine::kNone;
  };
  Instant fabric_time() const override { return clock_->now(); }
  void wake_at(Instant at, Slot slot) override { queue_->push(at, kind_, slot, 0); }
  void carry(Slot slot, Number from, Number to, Bytes bytes) override {
    Flight& flight = flights_[slot] = {from, to, bytes, writes_.add(slot)};
    writes_.start(flight.write);
  }
  bool drop(Slot slot) override {
    const auto it = flights_.find(slot);
    if (it == flights_.end()) return false;
    writes_.cancel(it->second.write);
    flights_.erase(it);
    return true;
  }
  bool broken(Number from, Number to) const override { return !way(from, to, scratch_) || !way(to, from, scratch_); }

  Instant write_time() const override { return clock_->now(); }
  void wake_at(Instant at, WriteEngine::Write write, std::uint64_t stamp) override {
    queue_->push(at, kind_, write, stamp);
  }
  bool route(std::uint32_t slot, std::vector<topology::LinkIndex>& path, Bytes& bytes) override {
    const Flight& flight = flights_.at(slot);
    bytes = flight.bytes;
    return way(flight.from, flight.to, path);
  }
  bool peer_up(std::uint32_t) const override { return true; }  // a dead process is known by its reset
  void written(std::uint32_t slot) override {
    flights_.erase(slot);
    Fabric::due(slot);
  }
  void gave_up(std::uint32_t slot) override {
    flights_.erase(slot);
    Fabric::gave_up(slot);
  }
  /// A connection keeps its way: the pair is the key.
  bool way(Number from, Number to, std::vector<topology::LinkIndex>& path) const {
    return paths_->choose(places_.at(from), places_.at(to), hash_combine(from, to), *links_, path);
  }

  const Clock* clock_;
  EventQueue* queue_;
  std::uint32_t kind_;
  const topology::PathTable* paths_;
  const topology::LinkState* links_;
  WriteEngine writes_;
  std::map<Number, topology::NodeGpu> places_;
  std::map<Slot, Flight> flights_;
  mutable std::vector<topology::LinkIndex> scratch_;
};

}  // namespace faultline::sim

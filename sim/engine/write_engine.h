// WriteEngine: one-sided writes over the simulated fabric, as a reliable NIC does them. A write is a flow on the
// max-min network. Where its path breaks, nobody is told: it waits, goes on with what is left if the path is back in
// time, and is given up when the retransmission budget has passed. Users: the simulated Transport and the world's KV
// pushes.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/topology/link_state.h"
#include "core/topology/paths.h"
#include "sim/engine/flow_net.h"

namespace faultline::sim {

class WriteEngine {
 public:
  using Write = std::uint32_t;
  static constexpr Write kNone = ~0U;

  class Owner {
   public:
    virtual ~Owner() = default;
    virtual Instant write_time() const = 0;
    /// due(write, stamp) is to be called at `at`.
    virtual void wake_at(Instant at, Write write, std::uint64_t stamp) = 0;
    /// The way of a write, and the bytes on it; asked at its start, and again after changes while there was none. An
    /// empty path moves nothing and is done at once.
    virtual bool route(std::uint32_t user, std::vector<topology::LinkIndex>& path, Bytes& bytes) = 0;
    virtual bool peer_up(std::uint32_t user) const = 0;
    /// The last byte has arrived; the write is forgotten.
    virtual void written(std::uint32_t user) = 0;
    virtual void gave_up(std::uint32_t user) = 0;
  };

  /// References must outlive it.
  WriteEngine(Owner& owner, FlowNet& net, const topology::PathTable& paths, const topology::LinkState& links,
              Duration retransmission_budget)
      : owner_(&owner), net_(&net), paths_(&paths), links_(&links), budget_(retransmission_budget) {}

  /// `user` is the owner's name for it. Nothing moves before start().
  Write add(std::uint32_t user);
  void start(Write write);
  /// Forgets it; the owner hears no more of it.
  void cancel(Write write);
  /// After links or peers went down or came back.
  void links_changed();
  /// What FlowNet reported; returns how many of the flows were writes.
  std::size_t flows_done(std::span<const FlowId> flows);
  void due(Write write, std::uint64_t stamp);

 private:
  struct State {
    std::uint32_t user = 0;
    bool live = false, started = false, routed = false;
    FlowId flow = 0;  // 0: waits for its path
    Bytes bytes;      // that the next flow has to move
    std::uint64_t stamp = 0;
    std::vector<topology::LinkIndex> path;
  };
  void launch(Write write);
  void wait(Write write);
  bool way_is_up(const State& s) const;

  Owner* owner_;
  FlowNet* net_;
  const topology::PathTable* paths_;
  const topology::LinkState* links_;
  Duration budget_;
  std::vector<State> writes_;
  std::vector<Write> free_;
  std::unordered_map<FlowId, Write> by_flow_;
  std::uint64_t stamps_ = 0;
};

}  // namespace faultline::sim

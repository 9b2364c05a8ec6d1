// Two simulated transports at two GPUs whose way crosses a spine, in simulated time; room for a decorator around each.
#pragma once

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>

#include "core/fault/faulty_transport.h"
#include "core/topology/topology.h"
#include "sim/faults/truth.h"
#include "sim/ports/sim_clock.h"
#include "sim/ports/sim_transport.h"
#include "tests/contract/transport_contract.h"

namespace faultline {

class SimTransportWorld : public contract::TransportWorld {
 public:
  SimTransportWorld() {
    for (std::size_t i = 0; i < 2; ++i) {
      sides_[i] = std::make_unique<sim::SimTransport>(fabric_);
      fabric_.place(*sides_[i], kPlaces[i]);
    }
  }
  Transport& transport(int side) override { return *sides_[static_cast<std::size_t>(side)]; }
  void destroy(int side) override { sides_[static_cast<std::size_t>(side)].reset(); }
  Duration step{10'000'000};  // how far time goes at most before done() is asked again
  bool run_until(const std::function<bool()>& done, Duration budget) override {
    const Instant end = clock_.now() + budget;
    while (!done()) {
      if (clock_.now() >= end) return false;
      const Instant to = std::clamp(next(), clock_.now() + Duration{1}, std::min(end, clock_.now() + step));
      net_->run_until(
          to, [this] { return queue_.empty() ? kNever : queue_.top().at; },
          [this](Instant t) {
            clock_.advance_to(t);
            while (!queue_.empty() && queue_.top().at <= t) fabric_.due(queue_.pop());
          },
          [this](Instant t, std::span<const sim::FlowId> flows) {
            clock_.advance_to(t);
            fabric_.flows_done(flows);
            net_->rearm();
          });
      clock_.advance_to(to);
    }
    return true;
  }
  void break_route() override { set_nics_down(true); }
  void mend_route() override { set_nics_down(false); }
  Instant now() override { return clock_.now(); }

 protected:
  virtual Instant next() { return queue_.empty() ? kNever : queue_.top().at; }
  sim::SimClock clock_;

 private:
  static constexpr std::array<topology::NodeGpu, 2> kPlaces{{{NodeId{0}, 0}, {NodeId{4}, 0}}};
  static std::optional<std::string> read(const std::string& path) {
    std::ifstream file(path);
    if (!file) return std::nullopt;
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  static topology::TopologySpec two_pods() {
    const std::string path = std::string(FAULTLINE_SOURCE_DIR) + "/topologies/tiny/two-pods.yaml";
    return topology::load_topology(*read(path), path, read);
  }
  void set_nics_down(bool down) {
    for (std::uint32_t k = 0; k < topology_.layout.nics; ++k) truth_.set_down(topology_.nic(NodeId{0}, k), down);
    fabric_.links_changed();
    net_->rearm();
  }

  topology::Topology topology_{topology::build(two_pods())};
  topology::PathTable paths_{topology_};
  sim::Truth truth_{topology_};
  sim::EventQueue queue_;
  std::unique_ptr<sim::FlowNet> net_ = sim::FlowNet::open(paths_.capacity());
  sim::SimFabric fabric_{clock_,
                         queue_,
                         0,
                         *net_,
                         paths_,
                         truth_.links(),
                         {.latency = {5'000},
                          .limits = {.ops_in_flight_max = 64,
                                     .spans_per_batch_max = 256,
                                     .failure_budget = {500'000'000},
                                     .device_memory = false}}};
  std::array<std::unique_ptr<sim::SimTransport>, 2> sides_;
};

/// Inside a FaultyTransport without faults.
class DecoratedSimTransportWorld final : public SimTransportWorld {
 public:
  DecoratedSimTransportWorld() {
    for (std::size_t i = 0; i < 2; ++i) {
      outer_[i] = std::make_unique<fault::FaultyTransport>(SimTransportWorld::transport(static_cast<int>(i)), clock_,
                                                           fault::TransportFaults{});
    }
  }
  Transport& transport(int side) override { return *outer_[static_cast<std::size_t>(side)]; }
  void destroy(int side) override {
    outer_[static_cast<std::size_t>(side)].reset();
    SimTransportWorld::destroy(side);
  }

 protected:
  Instant next() override {
    Instant due = SimTransportWorld::next();
    for (const auto& side : outer_) {
      if (side) due = std::min(due, side->next_due());
    }
    return due;
  }

 private:
  std::array<std::unique_ptr<fault::FaultyTransport>, 2> outer_;
};

}  // namespace faultline

// FailureDetector: from symptoms (lost heartbeats, failed steps, failed transfers, probes) to verdicts. It never sees
// the truth; the time between a fault and its verdict comes out of the symptoms' own delays and these rules.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "core/base/cause.h"
#include "core/base/quantity.h"
#include "core/control/digest.h"
#include "core/control/specs.h"

namespace faultline::control {

class FailureDetector {
 public:
  enum class Level : std::uint8_t { green, yellow, red };

  explicit FailureDetector(DetectorSpec spec) : spec_(spec) {}

  /// Heartbeats of a node's agent: suspected = yellow, lost = red, back = green again (a new start: its hardware is to
  /// be found bad anew).
  void node_suspected(std::uint32_t node) { set(node, Level::yellow, state(node).bad); }
  void node_lost(std::uint32_t node) { set(node, Level::red, state(node).bad); }
  void node_back(std::uint32_t node) { set(node, Level::green, false); }
  /// Hardware that failed a start check or a probe is red until a later probe passes.
  void node_bad(std::uint32_t node) { set(node, state(node).heartbeat, true); }
  void node_good(std::uint32_t node) { set(node, state(node).heartbeat, false); }
  /// Nodes that are red for their hardware alone: their agents answer, so that they can be probed again.
  std::vector<std::uint32_t> bad_nodes() const;

  /// A transfer between two nodes failed after its retries. Returns the nodes that deserve a probe now: both ends, once
  /// their failures within the window reach the threshold (the count then starts anew).
  std::vector<std::uint32_t> transfer_failed(Instant now, std::uint32_t from, std::uint32_t to);

  Level level(std::uint32_t node) const;
  /// Its agent does not answer any more (as against hardware that is bad while the agent answers).
  bool silent(std::uint32_t node) const { return state(node).heartbeat == Level::red; }
  std::uint64_t digest() const { return digest_.value(); }
  std::uint64_t full_digest() const;

 private:
  struct State {
    Level heartbeat = Level::green;
    bool bad = false;
    friend bool operator==(State, State) = default;
  };
  State state(std::uint32_t node) const;
  void set(std::uint32_t node, Level heartbeat, bool bad);

  DetectorSpec spec_;
  std::map<std::uint32_t, State> states_;  // those that are not green
  std::map<std::uint32_t, std::deque<Instant>> failures_;
  Digest digest_;
};

}  // namespace faultline::control

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

  /// Heartbeats of a node's agent: suspected = yellow, lost = red, back = green again.
  void node_suspected(std::uint32_t node) { set(node, Level::yellow); }
  void node_lost(std::uint32_t node) { set(node, Level::red); }
  void node_back(std::uint32_t node) { set(node, Level::green); }
  /// A node whose hardware failed a start check or a probe.
  void node_bad(std::uint32_t node) { set(node, Level::red); }

  /// A transfer between two nodes failed after its retries. Returns the nodes that deserve a probe now: both ends, once
  /// their failures within the window reach the threshold (the count then starts anew).
  std::vector<std::uint32_t> transfer_failed(Instant now, std::uint32_t from, std::uint32_t to);

  Level level(std::uint32_t node) const;
  std::uint64_t digest() const { return digest_.value(); }
  std::uint64_t full_digest() const;

 private:
  void set(std::uint32_t node, Level level);

  DetectorSpec spec_;
  std::map<std::uint32_t, Level> levels_;  // those that are not green
  std::map<std::uint32_t, std::deque<Instant>> failures_;
  Digest digest_;
};

}  // namespace faultline::control

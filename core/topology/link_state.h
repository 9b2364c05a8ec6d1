// Which directed links are up and at what share of their capacity. One owner, no locking. Overlapping faults are
// counted: a link that two faults took down is up again when both are over.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/assert.h"
#include "core/topology/graph.h"

namespace faultline::topology {

class LinkState {
 public:
  explicit LinkState(std::size_t directed_link_count)
      : down_(directed_link_count, 0), factor_(directed_link_count, 1.0) {}

  bool up(LinkIndex link) const { return down_[link.v] == 0; }
  /// Share of the nominal capacity that a link has while it is up: (0, 1].
  double factor(LinkIndex link) const { return factor_[link.v]; }
  std::size_t size() const { return down_.size(); }

  /// Give it ComponentGraph::links_of(component).
  void disable(std::span<const LinkIndex> links) {
    for (const LinkIndex link : links) ++down_[link.v];
  }
  void enable(std::span<const LinkIndex> links) {
    for (const LinkIndex link : links) {
      FAULTLINE_ASSERT(down_[link.v] > 0, "link {} enabled more often than disabled", link.v);
      --down_[link.v];
    }
  }
  /// Absolute, not relative to the present factor. A factor of 0 is disable().
  void set_factor(LinkIndex link, double factor) {
    FAULTLINE_ASSERT(factor > 0 && factor <= 1, "factor={}", factor);
    factor_[link.v] = factor;
  }

 private:
  std::vector<std::uint32_t> down_;
  std::vector<double> factor_;
};

}  // namespace faultline::topology

#include "sim/faults/truth.h"

namespace faultline::sim {

std::vector<ComponentId> Truth::set_down(ComponentId id, bool down) {
  std::vector<ComponentId> changed;
  for (const ComponentId c : topology_.graph.implied(id)) {
    const bool before = down_[c.v] > 0;
    down_[c.v] = static_cast<std::uint16_t>(down_[c.v] + (down ? 1 : -1));
    if (before != (down_[c.v] > 0)) changed.push_back(c);
  }
  const std::vector<topology::LinkIndex> links = topology_.graph.links_of(id);
  if (down) links_.disable(links);
  else links_.enable(links);
  links_down_ += (down ? 1 : -1) * static_cast<std::int64_t>(links.size());
  return changed;
}

void Truth::set_link_factor(ComponentId link, double factor) {
  for (const topology::LinkIndex l : topology_.graph.links_of(link)) {
    links_degraded_ += (factor < 1 ? 1 : 0) - (links_.factor(l) < 1 ? 1 : 0);
    links_.set_factor(l, factor);
  }
}

}  // namespace faultline::sim

#include "sim/faults/truth.h"

#include <array>

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

double Truth::change(Factors& factors, std::uint32_t key, std::uint32_t fault, double factor) {
  auto& of_key = factors[key];
  if (factor == 1) of_key.erase(fault);
  else of_key[fault] = factor;
  double product = 1;
  for (const auto& [id, f] : of_key) product *= f;
  if (of_key.empty()) factors.erase(key);
  return product;
}

void Truth::set_slow(ComponentId gpu, std::uint32_t fault, double factor) {
  slow_[gpu.v] = change(slow_factors_, gpu.v, fault, factor);
}

void Truth::set_link_factor(ComponentId of, std::uint32_t fault, double factor) {
  for (const topology::LinkIndex l : topology_.graph.links_of(of)) {
    links_.set_factor(l, change(link_factors_, l.v, fault, factor));
  }
}

void Truth::set_one_way(ComponentId link, bool blocked) {
  const std::array forward{topology_.graph.links_of(link).front()};  // ascending: the even index first
  if (blocked) links_.disable(forward);
  else links_.enable(forward);
  links_down_ += blocked ? 1 : -1;
}

}  // namespace faultline::sim

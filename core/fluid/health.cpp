#include "core/fluid/health.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace faultline::fluid {

using fault::FaultKind;
using topology::Kind;

Health::Health(const experiment::Deployment& d)
    : topology_(d.topology),
      schedule_(d.faults),
      active_(d.topology.layout.nodes),
      uplinks_lost_(d.topology.layout.leaves, 0),
      shut_(d.faults.size(), 0) {
  if (d.background.empty()) return;
  const topology::Layout& l = topology_.layout;
  std::map<std::uint32_t, double> left;  // by component of a link
  for (const auto& b : d.background) left[b.link.v] = b.left;
  const auto of = [&](topology::LinkIndex link) {
    const auto found = left.find(topology_.graph.link(link).component.v);
    return found == left.end() ? 1.0 : found->second;
  };
  nic_left_.assign(std::size_t{l.nodes} * l.nics, 1);
  for (std::uint32_t n = 0; n < l.nodes; ++n) {
    for (std::uint32_t nic = 0; nic < l.nics; ++nic) {
      double& share = nic_left_[std::size_t{n} * l.nics + nic];
      for (std::uint32_t port = 0; port < l.ports; ++port) share = std::min(share, of(l.cable(NodeId{n}, nic, port)));
    }
  }
  uplink_left_.assign(l.leaves, 1);
  for (std::uint32_t leaf = 0; leaf < l.leaves; ++leaf) {
    for (std::uint32_t s = 0; s < l.uplinks(); ++s)
      uplink_left_[leaf] = std::min(uplink_left_[leaf], of(l.uplink(leaf, s / l.parallel, s % l.parallel)));
    uplinks_shared_ |= uplink_left_[leaf] < 1;
  }
}

std::string Health::refusal(const topology::Topology& topology, const fault::ScheduledFault& f) {
  if (!std::holds_alternative<Instant>(f.trigger))
    return "is triggered by an event; fluid fidelity has no single events: give it a time";
  switch (f.kind) {
    case FaultKind::placebo:
    case FaultKind::router_crash:
    case FaultKind::gpu_failstop:
    case FaultKind::gpu_ecc:
    case FaultKind::gpu_correctable:
    case FaultKind::gpu_hang:
    case FaultKind::gpu_slow:
    case FaultKind::gpu_sdc:
    case FaultKind::pcie_degrade:
    case FaultKind::process_crash:
    case FaultKind::xgmi_down:
    case FaultKind::xgmi_degrade:
    case FaultKind::nic_down:
    case FaultKind::nic_flap:
    case FaultKind::node_crash:
    case FaultKind::node_maintenance:
    case FaultKind::cooling_loss:
    case FaultKind::rack_power: return {};
    case FaultKind::link_down:
    case FaultKind::link_degrade:
    case FaultKind::link_flap:
    case FaultKind::link_oneway:
    case FaultKind::pfc_storm:
    case FaultKind::switch_down: break;
    default: return fmt::format("of kind {} has no model at fluid fidelity: use step", name_of(f.kind));
  }
  const Kind kind = topology.graph[f.component].kind;
  const bool of_core = kind == Kind::core || (kind == Kind::fabric_link &&
                                              topology.graph.name(f.component).find("core-") != std::string::npos);
  if (of_core) return "is in the third tier of a fat tree, which fluid fidelity does not know: use step";
  return {};
}

std::vector<std::uint32_t> Health::nodes_of(const fault::ScheduledFault& f) const {
  std::vector<std::uint32_t> nodes;
  if (!f.component.valid() || f.kind == FaultKind::placebo || f.kind == FaultKind::router_crash) return nodes;
  const topology::Layout& l = topology_.layout;
  const topology::ComponentGraph& graph = topology_.graph;
  const Kind kind = graph[f.component].kind;
  if (const NodeId n = topology_.node_of(f.component); n.valid()) return {n.v};
  if (kind == Kind::rack || kind == Kind::power) {
    for (const ComponentId c : graph.implied(f.component)) {
      if (graph[c].kind == Kind::node) nodes.push_back(topology_.node_of(c).v);
    }
    return nodes;
  }
  const auto below = [&](std::uint32_t leaf) {
    for (std::uint32_t n = 0; n < l.nodes; ++n) {
      bool on = false;
      for (std::uint32_t nic = 0; nic < l.nics && !on; ++nic) {
        for (std::uint32_t port = 0; port < l.ports && !on; ++port) on = l.leaf_of(NodeId{n}, nic, port) == leaf;
      }
      if (on) nodes.push_back(n);
    }
  };
  for (std::uint32_t leaf = 0; leaf < l.leaves; ++leaf) {
    if (topology_.leaf(leaf) == f.component) below(leaf);
  }
  if (kind == Kind::spine || kind == Kind::fabric_link) {
    for (std::uint32_t n = 0; n < l.nodes; ++n)
      nodes.push_back(n);  // those whose group spans pods; the others do not change
  }
  return nodes;
}

std::vector<std::uint32_t> Health::set(std::uint32_t fault, bool active) {
  const fault::ScheduledFault& f = schedule_[fault];
  std::vector<std::uint32_t> nodes = nodes_of(f);
  const topology::Layout& l = topology_.layout;
  const Kind kind = f.component.valid() ? topology_.graph[f.component].kind : Kind::host;
  // What slows a spine's links without cutting them has ECMP's other ways; it is not counted.
  const bool fabric = (kind == Kind::spine || kind == Kind::fabric_link);
  if (fabric && (f.kind == FaultKind::link_degrade || f.kind == FaultKind::pfc_storm)) return {};
  if (fabric) {
    const auto count = [&](std::uint32_t leaf, std::uint32_t links) {
      const std::int64_t change = active ? links : -static_cast<std::int64_t>(links);
      uplinks_lost_[leaf] = static_cast<std::uint32_t>(uplinks_lost_[leaf] + change);
      lost_total_ += change;
    };
    for (std::uint32_t leaf = 0; leaf < l.leaves; ++leaf) {
      if (kind == Kind::spine) {
        for (std::uint32_t s = 0; s < l.spines_per_plane; ++s) {
          const auto& link = topology_.graph.link(l.uplink(leaf, s));
          if (link.b == f.component || link.a == f.component) count(leaf, l.parallel);
        }
      } else {
        for (std::uint32_t s = 0; s < l.uplinks(); ++s) {
          if (topology_.graph.link(l.uplink(leaf, s / l.parallel, s % l.parallel)).component == f.component)
            count(leaf, 1);
        }
      }
    }
    return nodes;
  }
  for (const std::uint32_t n : nodes) {
    if (active) active_[n].push_back(fault);
    else std::erase(active_[n], fault);
  }
  return nodes;
}

NodeHealth Health::of(std::uint32_t node) const {
  NodeHealth h;
  if (active_[node].empty() && nic_left_.empty()) return h;
  const topology::Layout& l = topology_.layout;
  const topology::ComponentGraph& graph = topology_.graph;
  std::vector<std::uint32_t> dark(l.nics, 0);
  std::vector<double> share(l.nics, 1.0);
  if (!nic_left_.empty()) {
    std::copy_n(nic_left_.begin() + static_cast<std::ptrdiff_t>(std::size_t{node} * l.nics), l.nics, share.begin());
  }
  for (const std::uint32_t index : active_[node]) {
    const fault::ScheduledFault& f = schedule_[index];
    const Kind kind = graph[f.component].kind;
    const auto gpu = topology_.gpu_of(f.component);
    switch (f.kind) {
      case FaultKind::gpu_correctable:
      case FaultKind::gpu_sdc:
      case FaultKind::process_crash: continue;  // the hardware is well
      case FaultKind::gpu_ecc:
        if (f.process_only) continue;
        [[fallthrough]];
      case FaultKind::gpu_failstop: h.dead_gpus |= std::uint64_t{1} << gpu->gpu; continue;
      case FaultKind::pcie_degrade: share[l.rail_of(gpu->gpu)] *= f.factor; continue;
      case FaultKind::cooling_loss:
        if (shut_[index]) h.down = true;
        else h.slow = std::max(h.slow, f.factor);
        continue;
      case FaultKind::gpu_hang:
        h.hung = true;
        h.own_gpus |= std::uint64_t{1} << gpu->gpu;
        continue;
      case FaultKind::gpu_slow: h.slow = std::max(h.slow, f.factor); continue;
      case FaultKind::node_crash:
      case FaultKind::node_maintenance:
      case FaultKind::rack_power: h.down = true; continue;
      default: break;
    }
    if (kind == Kind::xgmi_link) {
      if (f.kind == FaultKind::link_degrade || f.kind == FaultKind::xgmi_degrade) {
        h.xgmi = std::min(h.xgmi, f.factor);
      } else if (topology_.spec.node.xgmi_transit) {
        h.xgmi = std::min(h.xgmi, 0.5);  // two flows share each link of the detour
      } else {
        h.dead_gpus |= 1;  // the all-to-all of the node has no way: its workers end
      }
      continue;
    }
    for (std::uint32_t nic = 0; nic < l.nics; ++nic) {
      for (std::uint32_t port = 0; port < l.ports; ++port) {
        const ComponentId cable = graph.link(l.cable(NodeId{node}, nic, port)).component;
        const bool here = kind == Kind::nic    ? topology_.nic(NodeId{node}, nic) == f.component
                          : kind == Kind::leaf ? topology_.leaf(l.leaf_of(NodeId{node}, nic, port)) == f.component
                                               : cable == f.component;
        if (!here) continue;
        if (f.kind == FaultKind::link_degrade || f.kind == FaultKind::pfc_storm)
          share[nic] *= f.factor;  // as the step simulator's: what is left of what is left
        else ++dark[nic];
      }
    }
  }
  std::uint32_t lit = 0;
  for (std::uint32_t nic = 0; nic < l.nics; ++nic) {
    const std::uint32_t ports = dark[nic] < l.ports ? l.ports - dark[nic] : 0;
    lit += ports > 0 ? 1 : 0;
    if (ports == 0 && !topology_.spec.node.nic_failover) {
      for (std::uint32_t g = 0; g < l.gpus; ++g) h.own_gpus |= std::uint64_t{l.rail_of(g) == nic} << g;
    }
    if (ports > 0) h.rdma = std::min(h.rdma, share[nic] * static_cast<double>(ports) / static_cast<double>(l.ports));
  }
  if (lit < l.nics) {
    if (!topology_.spec.node.nic_failover || lit == 0) h.cut = true;
    else h.rdma = std::min(h.rdma, static_cast<double>(lit) / static_cast<double>(l.nics));
  }
  if (h.down) h.dead_gpus = ~std::uint64_t{0} >> (64 - l.gpus);
  h.own_gpus |= h.dead_gpus;
  return h;
}

std::vector<std::uint32_t> Health::shut_down(std::uint32_t fault) {
  shut_[fault] = 1;
  return nodes_of(schedule_[fault]);
}

void Health::clear_hang(std::uint32_t node) {
  std::erase_if(active_[node], [&](std::uint32_t f) { return schedule_[f].kind == FaultKind::gpu_hang; });
}

double Health::nics_left(std::uint32_t node) const {
  double left = 1;
  const std::uint32_t nics = topology_.layout.nics;
  for (std::uint32_t nic = 0; nic < nics && !nic_left_.empty(); ++nic)
    left = std::min(left, nic_left_[std::size_t{node} * nics + nic]);
  return left;
}

double Health::uplinks_left(std::uint32_t node) const {
  double left = 1;
  const topology::Layout& l = topology_.layout;
  for (std::uint32_t nic = 0; nic < l.nics && uplinks_shared_; ++nic) {
    for (std::uint32_t port = 0; port < l.ports; ++port)
      left = std::min(left, uplink_left_[l.leaf_of(NodeId{node}, nic, port)]);
  }
  return left;
}

double Health::uplinks_of(std::uint32_t node) const {
  if (uplinks_whole()) return 1;
  const topology::Layout& l = topology_.layout;
  double worst = 1;
  for (std::uint32_t nic = 0; nic < l.nics; ++nic) {
    for (std::uint32_t port = 0; port < l.ports; ++port) {
      const std::uint32_t leaf = l.leaf_of(NodeId{node}, nic, port);
      const double shared = uplink_left_.empty() ? 1 : uplink_left_[leaf];
      worst =
          std::min(worst, shared * (1 - static_cast<double>(uplinks_lost_[leaf]) / static_cast<double>(l.uplinks())));
    }
  }
  return worst;
}

}  // namespace faultline::fluid

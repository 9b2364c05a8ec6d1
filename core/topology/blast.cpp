#include "core/topology/blast.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace faultline::topology {
namespace {

constexpr std::uint32_t kNone = 0xffffffffU;

/// Adds up the losses of one component at a time; the arrays are cleared entry by entry, so that a component costs only
/// what it implies.
class Tally {
 public:
  Tally(const Topology& t, const Placement& p) : t_(t), l_(t.layout) {
    const std::size_t instances = p.instances.size() + p.spare_instances.size();
    owner_.assign(l_.nodes, kNone);
    leaf_use_.resize(l_.leaves);
    sum_.resize(instances);
    for (std::uint32_t n = 0; n < l_.nodes; ++n) {
      const NodeRole role = p.use[n].role;
      if (role == NodeRole::prefill || role == NodeRole::decode || role == NodeRole::mixed)
        owner_[n] = p.use[n].instance;
    }
    node_index_.assign(t.graph.size(), kNone);
    for (std::uint32_t n = 0; n < l_.nodes; ++n) node_index_[t.node({n}).v] = n;
    find_uses();
  }

  struct Loss {
    std::uint32_t gpus_lost = 0, gpus_cut_off = 0;
  };

  /// Fills `out` with the hits of `id`, ascending by instance.
  Loss run(ComponentId id, std::vector<Hit>& out) {
    Loss loss;
    touched_.clear();
    nodes_.clear();
    const auto implied = t_.graph.implied(id);
    for (const ComponentId c : implied) take(c, id, loss);
    count_cut_off(loss);
    std::sort(touched_.begin(), touched_.end());
    for (const std::uint32_t i : touched_) {
      sum_[i].hit.instance = i;
      sum_[i].hit.network_share = std::min(1.0, sum_[i].hit.network_share);
      out.push_back(sum_[i].hit);
      sum_[i] = {};
    }
    return loss;
  }

 private:
  struct Use {  // of a leaf by an instance
    std::uint32_t instance;
    double share;      // of the instance's cables that end here
    bool leaves_leaf;  // has traffic to another leaf over the spines
    bool leaves_pod;   // fat tree: has traffic to another pod
  };
  struct Sum {
    Hit hit;
    bool touched = false;
  };
  struct NodeLoss {
    std::uint32_t node = 0;
    std::uint64_t dead_gpus = 0;            // bit per GPU
    std::vector<std::uint32_t> dead_ports;  // by NIC
  };

  void find_uses() {
    const bool forward = l_.kind == FabricKind::rail_optimised && t_.spec.fabric.cross_rail == CrossRail::forward;
    std::vector<std::map<std::uint32_t, std::uint32_t>> cables(sum_.size());  // instance: leaf: count
    cables_.assign(sum_.size(), 0);
    for (std::uint32_t n = 0; n < l_.nodes; ++n) {
      if (owner_[n] == kNone) continue;
      cables_[owner_[n]] += l_.nics * l_.ports;
      for (std::uint32_t nic = 0; nic < l_.nics; ++nic) {
        for (std::uint32_t port = 0; port < l_.ports; ++port) ++cables[owner_[n]][l_.leaf_of({n}, nic, port)];
      }
    }
    for (std::uint32_t i = 0; i < cables.size(); ++i) {
      // Leaves that a flow of this instance may go between: the same rail's in forward mode, else all of them; with
      // two ports, those of equal port number, because a flow keeps its port while it can.
      const auto group = [&](std::uint32_t leaf) {
        if (forward) return leaf % l_.leaves_per_pod;
        return l_.kind == FabricKind::dual_tor ? leaf % 2 : 0U;
      };
      std::map<std::uint32_t, std::uint32_t> leaves_in;
      std::map<std::uint32_t, std::uint32_t> pods;
      for (const auto& [leaf, count] : cables[i]) {
        ++leaves_in[group(leaf)];
        ++pods[l_.pod_of_leaf(leaf)];
      }
      for (const auto& [leaf, count] : cables[i]) {
        leaf_use_[leaf].push_back({.instance = i,
                                   .share = static_cast<double>(count) / cables_[i],
                                   .leaves_leaf = leaves_in[group(leaf)] > 1,
                                   .leaves_pod = pods.size() > 1});
      }
    }
  }

  Hit& hit(std::uint32_t instance) {
    Sum& s = sum_[instance];
    if (!s.touched) {
      s.touched = true;
      touched_.push_back(instance);
    }
    return s.hit;
  }

  NodeLoss& node_loss(std::uint32_t node) {
    for (NodeLoss& n : nodes_) {
      if (n.node == node) return n;
    }
    nodes_.push_back({.node = node, .dead_gpus = 0, .dead_ports = std::vector<std::uint32_t>(l_.nics, 0)});
    return nodes_.back();
  }

  void take(ComponentId c, ComponentId cause, Loss& loss) {
    const Component& what = t_.graph[c];
    switch (what.kind) {
      case Kind::gpu: {
        const std::uint32_t node = node_index_[what.parent.v];
        const auto gpu = c.v - t_.gpu({.node = {node}, .gpu = 0}).v;
        if (last_node(node)) nodes_.back().dead_gpus |= std::uint64_t{1} << gpu;
        else node_loss(node).dead_gpus |= std::uint64_t{1} << gpu;
        ++loss.gpus_lost;
        if (owner_[node] != kNone) ++hit(owner_[node]).gpus_lost;
        break;
      }
      case Kind::cable: {
        const ComponentId nic = what.parent;
        const std::uint32_t node = node_index_[t_.graph[nic].parent.v];
        NodeLoss& n = last_node(node) ? nodes_.back() : node_loss(node);
        ++n.dead_ports[nic.v - t_.nic({node}, 0).v];
        if (owner_[node] != kNone) hit(owner_[node]).network_share += 1.0 / cables_[owner_[node]];
        break;
      }
      case Kind::xgmi_link:
        if (const std::uint32_t node = node_index_[what.parent.v]; owner_[node] != kNone) hit(owner_[node]);
        break;
      case Kind::fabric_link: take_fabric_link(t_.graph.link(what.link), cause); break;
      default: break;
    }
  }
  bool last_node(std::uint32_t node) const { return !nodes_.empty() && nodes_.back().node == node; }

  void take_fabric_link(const Link& link, ComponentId cause) {
    if (t_.graph[link.a].kind == Kind::leaf) {
      if (t_.graph[cause].kind == Kind::leaf) return;  // its cables are counted already
      const std::uint32_t leaf = link.a.v - t_.leaf(0).v;
      for (const Use& u : leaf_use_[leaf]) {
        if (u.leaves_leaf) hit(u.instance).network_share += u.share / l_.uplinks();
      }
      return;
    }
    // Spine to core: one of spines times cores ways out of the pod, unless the spine itself is gone and counted above.
    const Kind kind = t_.graph[cause].kind;
    if (kind == Kind::spine) return;
    const std::uint32_t pod = (link.a.v - t_.spine(0).v) / l_.spines_per_plane;
    for (std::uint32_t leaf = pod * l_.leaves_per_pod; leaf < (pod + 1) * l_.leaves_per_pod; ++leaf) {
      for (const Use& u : leaf_use_[leaf]) {
        if (u.leaves_pod) hit(u.instance).network_share += u.share / (l_.spines_per_plane * l_.cores_per_spine);
      }
    }
  }

  void count_cut_off(Loss& loss) {
    for (const NodeLoss& n : nodes_) {
      bool any = false;
      for (const std::uint32_t dead : n.dead_ports) any = any || dead < l_.ports;
      for (std::uint32_t gpu = 0; gpu < l_.gpus; ++gpu) {
        if (n.dead_gpus >> gpu & 1U) continue;
        const bool own = n.dead_ports[l_.rail_of(gpu)] < l_.ports;
        if (own || (any && t_.spec.node.nic_failover)) continue;
        ++loss.gpus_cut_off;
        if (owner_[n.node] != kNone) ++hit(owner_[n.node]).gpus_cut_off;
      }
    }
  }

  const Topology& t_;
  const Layout& l_;
  std::vector<std::uint32_t> owner_;       // instance by node
  std::vector<std::uint32_t> node_index_;  // node by component
  std::vector<std::uint32_t> cables_;      // by instance
  std::vector<std::vector<Use>> leaf_use_;
  std::vector<Sum> sum_;
  std::vector<std::uint32_t> touched_;
  std::vector<NodeLoss> nodes_;
};

}  // namespace

Blast::Blast(const Topology& topology, const Placement& placement) {
  Tally tally(topology, placement);
  const std::size_t n = topology.graph.size();
  begin_.assign(n + 1, 0);
  std::array<BlastRow, kKindCount> rows{};
  std::array<std::tuple<std::uint32_t, std::size_t>, kKindCount> worst{};
  std::uint32_t placed_gpus = 0;
  for (const auto* list : {&placement.instances, &placement.spare_instances}) {
    for (const InstanceNodes& i : *list)
      placed_gpus += static_cast<std::uint32_t>(i.all().size()) * topology.layout.gpus;
  }
  for (std::uint32_t c = 0; c < n; ++c) {
    const ComponentId id{c};
    begin_[c] = static_cast<std::uint32_t>(hits_.size());
    const auto loss = tally.run(id, hits_);
    const std::span<const Hit> mine = std::span(hits_).subspan(begin_[c]);
    BlastRow& row = rows[static_cast<std::size_t>(topology.graph[id].kind)];
    row.kind = topology.graph[id].kind;
    ++row.count;
    if (mine.empty()) ++row.harmless;
    std::uint32_t gpus = 0;
    for (const Hit& h : mine) {
      gpus += h.gpus_lost + h.gpus_cut_off;
      row.network_share_max = std::max(row.network_share_max, h.network_share);
    }
    row.gpus_lost_max = std::max(row.gpus_lost_max, loss.gpus_lost);
    row.gpus_cut_off_max = std::max(row.gpus_cut_off_max, loss.gpus_cut_off);
    row.instances_max = std::max(row.instances_max, static_cast<std::uint32_t>(mine.size()));
    row.instances_mean += static_cast<double>(mine.size());
    if (placed_gpus > 0) row.gpu_share_max = std::max(row.gpu_share_max, static_cast<double>(gpus) / placed_gpus);
    const std::tuple<std::uint32_t, std::size_t> rank{loss.gpus_lost + loss.gpus_cut_off, mine.size()};
    auto& best = worst[static_cast<std::size_t>(row.kind)];
    if (!row.worst.valid() || rank > best) {
      best = rank;
      row.worst = id;
    }
  }
  begin_[n] = static_cast<std::uint32_t>(hits_.size());
  for (BlastRow& row : rows) {
    if (row.count == 0) continue;
    row.instances_mean /= row.count;
    rows_.push_back(row);
  }
}

}  // namespace faultline::topology

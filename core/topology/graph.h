// The component graph: everything in a cluster that can fail, what contains it and what it connects. Flat vectors
// indexed by ComponentId, built once and then constant; shared by the simulator, the fault actuators and the analyses.
// The Boost.Graph view for connectivity questions is connectivity.h; routes are paths.h. Says nothing about serving.
//
// Names are stable and unique: power-0, rack-1, host-0, node-3, node-3.gpu-5, node-3.nic-5, node-3.xgmi-0-1,
// node-3.nic-5.cable (cable-0, cable-1 on a NIC with two ports), leaf-0, spine-2, core-1, leaf-0.spine-2 (one link),
// leaf-0.spine-2.link-1 (of several parallel ones), spine-2.core-1.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/ids.h"
#include "core/base/quantity.h"

namespace faultline::topology {

enum class Kind : std::uint8_t {
  power,  // a feed: all racks on it fail together
  rack,
  host,  // a server without GPUs (routers, management)
  node,  // a GPU server
  gpu,
  nic,
  leaf,         // the switch NICs are cabled to (ToR, rail switch, edge switch of a fat tree)
  spine,        // second tier (aggregation in a fat tree)
  core,         // third tier of a fat tree
  xgmi_link,    // GPU to GPU in one node
  cable,        // NIC port to leaf
  fabric_link,  // leaf to spine, spine to core
};
inline constexpr std::size_t kKindCount = 12;

constexpr std::array<std::string_view, kKindCount> enum_names(const Kind*) {
  return {"power", "rack", "host", "node", "gpu", "nic", "leaf", "spine", "core", "xgmi_link", "cable", "fabric_link"};
}
constexpr std::string_view name_of(Kind kind) { return enum_names(&kind)[static_cast<std::size_t>(kind)]; }
constexpr bool is_link(Kind kind) { return kind >= Kind::xgmi_link; }
constexpr bool is_switch(Kind kind) { return kind == Kind::leaf || kind == Kind::spine || kind == Kind::core; }

/// One direction of a link, dense from 0: link number times two, plus 0 for a to b, 1 for b to a.
using LinkIndex = Id<struct DirectedLinkTag>;
constexpr LinkIndex reverse(LinkIndex link) { return {link.v ^ 1U}; }

struct Component {
  Kind kind{};
  ComponentId parent;  // what contains it: gpu in node, node in rack, cable in nic; invalid for a root
  std::uint32_t link = LinkIndex::kInvalid;  // link number where is_link(kind)
};

struct Link {
  ComponentId component;
  ComponentId a, b;         // two devices; a cable runs from its NIC, a fabric link from the lower tier
  BytesPerSecond capacity;  // of each direction
  Duration latency;         // of one traversal, with its share of the devices at its ends (spec.h says which)
};

/// Two lines for a user who named a component that does not exist.
struct UnknownName {
  std::string message;  // unknown component 'leaf-3'
  std::string note;     // known leaf components: leaf-0, leaf-1 (did you mean 'leaf-0'?)
};

class ComponentGraph {
 public:
  ComponentGraph() = default;
  ComponentGraph(ComponentGraph&&) = default;  // the name index points into the names: movable, not copyable
  ComponentGraph& operator=(ComponentGraph&&) = default;

  // Building. Names must be new (asserted), parents and ends must exist. finish() ends it.
  void reserve(std::size_t components, std::size_t links);
  ComponentId add(Kind kind, std::string name, ComponentId parent);
  ComponentId add_link(Kind kind, std::string name, ComponentId parent, ComponentId a, ComponentId b,
                       BytesPerSecond capacity, Duration latency);
  void finish();

  std::size_t size() const { return components_.size(); }
  const Component& operator[](ComponentId id) const { return components_[id.v]; }
  const std::string& name(ComponentId id) const { return names_[id.v]; }
  /// Components of a kind in the order of their numbers.
  std::span<const ComponentId> of_kind(Kind kind) const { return by_kind_[static_cast<std::size_t>(kind)]; }

  std::size_t link_count() const { return links_.size(); }               // undirected
  std::size_t directed_link_count() const { return 2 * links_.size(); }  // LinkIndex is below this
  const Link& link(std::uint32_t number) const { return links_[number]; }
  const Link& link(LinkIndex index) const { return links_[index.v / 2]; }
  std::string link_name(LinkIndex index) const;  // "node-0.nic-1.cable" forward, "node-0.nic-1.cable~" backward

  /// O(1). nullopt where there is none.
  std::optional<ComponentId> find(std::string_view name) const;
  /// What to tell a user who asked for `name`; looks only at siblings, so it is quick in a large graph.
  UnknownName unknown(std::string_view name) const;

  std::span<const ComponentId> children(ComponentId id) const;
  /// Numbers of the links with an end at this device.
  std::span<const std::uint32_t> links_at(ComponentId id) const;

  /// Everything that is down when `id` is, itself included: what it contains, recursively, and the links of every
  /// device among them. Ascending, without repetition.
  std::vector<ComponentId> implied(ComponentId id) const;
  /// Both directions of every link among implied(id). Ascending.
  std::vector<LinkIndex> links_of(ComponentId id) const;
  /// True if `inner` is `outer` or contained in it.
  bool contains(ComponentId outer, ComponentId inner) const;
  /// The containing component of the given kind (itself if it is one), or an invalid id.
  ComponentId enclosing(ComponentId id, Kind kind) const;

 private:
  std::vector<Component> components_;
  std::vector<std::string> names_;
  std::vector<Link> links_;
  std::array<std::vector<ComponentId>, kKindCount> by_kind_;
  std::unordered_map<std::string_view, ComponentId> index_;  // looked up, never iterated
  std::vector<std::uint32_t> child_begin_, link_begin_;      // offsets, size() + 1 long
  std::vector<ComponentId> child_list_;
  std::vector<std::uint32_t> link_list_;
};

}  // namespace faultline::topology

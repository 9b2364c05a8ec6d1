#include "core/topology/graph.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/assert.h"
#include "core/config/diagnostics.h"

namespace faultline::topology {

void ComponentGraph::reserve(std::size_t components, std::size_t links) {
  components_.reserve(components);
  names_.reserve(components);
  index_.reserve(components);
  links_.reserve(links);
}

ComponentId ComponentGraph::add(Kind kind, std::string name, ComponentId parent) {
  FAULTLINE_ASSERT(child_begin_.empty(), "add '{}' after finish", name);
  FAULTLINE_ASSERT(!parent.valid() || parent.v < components_.size(), "parent {} of '{}'", parent.v, name);
  const ComponentId id{static_cast<std::uint32_t>(components_.size())};
  components_.push_back({.kind = kind, .parent = parent});
  names_.push_back(std::move(name));
  by_kind_[static_cast<std::size_t>(kind)].push_back(id);
  return id;
}

ComponentId ComponentGraph::add_link(Kind kind, std::string name, ComponentId parent, ComponentId a, ComponentId b,
                                     BytesPerSecond capacity, Duration latency) {
  FAULTLINE_ASSERT(is_link(kind) && a.v < components_.size() && b.v < components_.size() && a != b && capacity.v > 0,
                   "link '{}' from {} to {}, {} B/s", name, a.v, b.v, capacity.v);
  const ComponentId id = add(kind, std::move(name), parent);
  components_[id.v].link = static_cast<std::uint32_t>(links_.size());
  links_.push_back({.component = id, .a = a, .b = b, .capacity = capacity, .latency = latency});
  return id;
}

void ComponentGraph::finish() {
  const std::size_t n = components_.size();
  // The names no longer move now; an index made earlier would point at short names that a growing vector has moved.
  for (std::uint32_t i = 0; i < n; ++i) {
    const bool fresh = index_.emplace(names_[i], ComponentId{i}).second;
    FAULTLINE_ASSERT(fresh, "two components are named '{}'", names_[i]);
  }
  child_begin_.assign(n + 1, 0);
  link_begin_.assign(n + 1, 0);
  for (const Component& c : components_) {
    if (c.parent.valid()) ++child_begin_[c.parent.v + 1];
  }
  for (const Link& l : links_) {
    ++link_begin_[l.a.v + 1];
    ++link_begin_[l.b.v + 1];
  }
  for (std::size_t i = 0; i < n; ++i) {
    child_begin_[i + 1] += child_begin_[i];
    link_begin_[i + 1] += link_begin_[i];
  }
  child_list_.resize(child_begin_[n]);
  link_list_.resize(link_begin_[n]);
  std::vector<std::uint32_t> child_at(child_begin_.begin(), child_begin_.end() - 1);
  std::vector<std::uint32_t> link_at(link_begin_.begin(), link_begin_.end() - 1);
  for (std::uint32_t i = 0; i < n; ++i) {
    const ComponentId parent = components_[i].parent;
    if (parent.valid()) child_list_[child_at[parent.v]++] = ComponentId{i};
  }
  for (std::uint32_t l = 0; l < links_.size(); ++l) {
    link_list_[link_at[links_[l].a.v]++] = l;
    link_list_[link_at[links_[l].b.v]++] = l;
  }
}

std::string ComponentGraph::link_name(LinkIndex index) const {
  return names_[link(index).component.v] + (index.v % 2 == 0 ? "" : "~");
}

std::optional<ComponentId> ComponentGraph::find(std::string_view name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) return std::nullopt;
  return found->second;
}

UnknownName ComponentGraph::unknown(std::string_view name) const {
  UnknownName out{.message = fmt::format("unknown component '{}'", name), .note = {}};
  // A known beginning ("node-3" of "node-3.gpu-9") narrows the search to names below it.
  for (auto dot = name.rfind('.'); dot != std::string_view::npos && dot > 0; dot = name.rfind('.', dot - 1)) {
    const auto owner = find(name.substr(0, dot));
    if (!owner) continue;
    std::vector<std::string> below;
    const auto take = [&](ComponentId id) {
      if (names_[id.v].starts_with(names_[owner->v] + ".")) below.push_back(names_[id.v]);
    };
    for (const ComponentId child : children(*owner)) take(child);
    for (const std::uint32_t l : links_at(*owner)) {
      if (components_[links_[l].component.v].parent != *owner) take(links_[l].component);
    }
    if (below.empty()) {
      out.note = fmt::format("'{}' has no parts", names_[owner->v]);
      return out;
    }
    const std::string nearest = config::did_you_mean(name, below);
    out.note = fmt::format("known parts of {}: {}{}{}", names_[owner->v], config::name_list(below, 12),
                           nearest.empty() ? "" : " ", nearest);
    return out;
  }
  // Otherwise the names without a dot: the kind that the first letters say, or all kinds by their first names.
  const std::string_view head = name.substr(0, name.find('.'));
  const std::string_view stem = head.substr(0, head.find_last_not_of("0123456789") + 1);
  constexpr std::array<Kind, 7> kTop{Kind::node, Kind::leaf,  Kind::spine, Kind::core,
                                     Kind::rack, Kind::power, Kind::host};
  for (const Kind kind : kTop) {
    if (stem.empty() || stem != fmt::format("{}-", name_of(kind)) || of_kind(kind).empty()) continue;
    const auto ids = of_kind(kind);
    out.note = ids.size() == 1 ? fmt::format("the only {} is {}", name_of(kind), names_[ids[0].v])
                               : fmt::format("there are {} of kind {}: {} … {}", ids.size(), name_of(kind),
                                             names_[ids.front().v], names_[ids.back().v]);
    return out;
  }
  std::vector<std::string> first;
  for (const Kind kind : kTop) {
    if (!of_kind(kind).empty()) first.push_back(names_[of_kind(kind)[0].v]);
  }
  std::vector<std::string> all;
  for (const Kind kind : kTop) {
    for (const ComponentId id : of_kind(kind)) {
      if (all.size() < 4096) all.push_back(names_[id.v]);
    }
  }
  const std::string nearest = config::did_you_mean(head, all);
  out.note =
      fmt::format("names begin with one of: {}{}{}", config::name_list(first, 12), nearest.empty() ? "" : " ", nearest);
  return out;
}

std::span<const ComponentId> ComponentGraph::children(ComponentId id) const {
  return std::span(child_list_).subspan(child_begin_[id.v], child_begin_[id.v + 1] - child_begin_[id.v]);
}

std::span<const std::uint32_t> ComponentGraph::links_at(ComponentId id) const {
  return std::span(link_list_).subspan(link_begin_[id.v], link_begin_[id.v + 1] - link_begin_[id.v]);
}

std::vector<ComponentId> ComponentGraph::implied(ComponentId id) const {
  std::vector<ComponentId> out{id};
  for (std::size_t i = 0; i < out.size(); ++i) {
    const ComponentId at = out[i];
    for (const ComponentId child : children(at)) out.push_back(child);
    for (const std::uint32_t l : links_at(at)) out.push_back(links_[l].component);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::vector<LinkIndex> ComponentGraph::links_of(ComponentId id) const {
  std::vector<LinkIndex> out;
  for (const ComponentId c : implied(id)) {
    const std::uint32_t link = components_[c.v].link;
    if (link == LinkIndex::kInvalid) continue;
    out.push_back({2 * link});
    out.push_back({2 * link + 1});
  }
  return out;
}

bool ComponentGraph::contains(ComponentId outer, ComponentId inner) const {
  while (inner.valid() && inner != outer) inner = components_[inner.v].parent;
  return inner == outer && inner.valid();
}

ComponentId ComponentGraph::enclosing(ComponentId id, Kind kind) const {
  while (id.valid() && components_[id.v].kind != kind) id = components_[id.v].parent;
  return id;
}

}  // namespace faultline::topology

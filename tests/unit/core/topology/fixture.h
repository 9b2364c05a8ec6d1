// Topologies for tests: from the project's own files with a few keys replaced, or from text.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "core/topology/paths.h"
#include "core/topology/placement.h"
#include "core/topology/topology.h"

namespace faultline::topology::testing {

inline std::optional<std::string> read_project_file(const std::string& path) {
  std::ifstream in(path);
  if (!in) return std::nullopt;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

inline std::string folder() { return std::string(FAULTLINE_SOURCE_DIR) + "/topologies/"; }

/// A topology of topologies/, with changes such as "nodes=3" or "fabric.kind=single_tor".
inline TopologySpec spec_of(const std::string& file, const std::vector<std::string>& changes = {}) {
  config::Diagnostics diagnostics;
  const auto text = read_project_file(folder() + file);
  EXPECT_TRUE(text) << file;
  config::Document document(text.value_or(""), folder() + file, diagnostics);
  for (const auto& change : changes) document.set(change, diagnostics);
  TopologySpec spec = read_topology(document, document.root(), "", read_project_file, diagnostics);
  diagnostics.throw_if_any();
  return spec;
}

/// Two-node, two-rail, one-leaf-a-node cluster unless changed by the caller: small enough to write paths by hand.
inline TopologySpec small() {
  TopologySpec s;
  s.name = "small";
  s.nodes = 2;
  s.hosts = 1;
  s.node.gpus = 2;
  s.node.nics = 2;
  s.fabric.nodes_per_leaf = 1;
  s.racks = {.nodes_per_rack = 1, .racks_per_feed = 1, .switches_per_rack = 2};
  s.placement = {.instances = 1, .prefill_nodes = 1, .decode_nodes = 1};
  return s;
}

inline std::vector<std::string> names_of(const Topology& t, const std::vector<LinkIndex>& path) {
  std::vector<std::string> out;
  for (const LinkIndex l : path) out.push_back(t.graph.link_name(l));
  return out;
}

inline std::vector<std::string> names_of(const Topology& t, const std::vector<ComponentId>& ids) {
  std::vector<std::string> out;
  for (const ComponentId id : ids) out.push_back(t.graph.name(id));
  return out;
}

inline ComponentId id(const Topology& t, const std::string& name) {
  const auto found = t.graph.find(name);
  EXPECT_TRUE(found) << name;
  return found.value_or(ComponentId{0});
}

}  // namespace faultline::topology::testing

#include "backend/transport/nic_choice.h"

#include <sched.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <tuple>

#ifdef FAULTLINE_HWLOC
#include <hwloc.h>
#endif

namespace faultline::transport {
namespace {

namespace fs = std::filesystem;

std::int32_t numa_of(const fs::path& device) {
  std::ifstream file(device / "numa_node");
  std::int32_t node = -1;
  file >> node;
  return node;
}

std::int32_t own_numa_node() {
  unsigned int cpu = 0, node = 0;
  return ::getcpu(&cpu, &node) == 0 ? static_cast<std::int32_t>(node) : -1;
}

std::vector<Nic> list(bool rdma) {
  std::vector<Nic> all;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(rdma ? "/sys/class/infiniband" : "/sys/class/net", error)) {
    Nic nic{.name = entry.path().filename().string(), .pci = {}, .numa_node = -1, .depth = 0};
    if (nic.name == "lo") continue;
    const fs::path device = fs::canonical(entry.path() / "device", error);
    if (!error) {
      nic.pci = device.filename().string();
      nic.numa_node = numa_of(device);
    }
    all.push_back(std::move(nic));
  }
  return all;
}

#ifdef FAULTLINE_HWLOC
class Machine {
 public:
  Machine() {
    loaded_ = hwloc_topology_init(&topology_) == 0;
    if (!loaded_) return;
    hwloc_topology_set_io_types_filter(topology_, HWLOC_TYPE_FILTER_KEEP_ALL);
    loaded_ = hwloc_topology_load(topology_) == 0;
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  /// Steps from the root to the deepest object that contains both devices; 0 if one is unknown.
  std::uint32_t common_depth(const std::string& a, const std::string& b) const {
    const hwloc_obj_t first = find(a);
    const hwloc_obj_t second = find(b);
    if (!first || !second) return 0;
    std::vector<hwloc_obj_t> path;
    for (hwloc_obj_t at = first; at; at = at->parent) path.push_back(at);
    for (hwloc_obj_t at = second; at; at = at->parent) {
      const auto it = std::find(path.begin(), path.end(), at);
      if (it != path.end()) return static_cast<std::uint32_t>(path.end() - it);
    }
    return 0;
  }

 private:
  hwloc_obj_t find(const std::string& pci) const {
    return loaded_ && !pci.empty() ? hwloc_get_pcidev_by_busidstring(topology_, pci.c_str()) : nullptr;
  }
  hwloc_topology_t topology_ = nullptr;
  bool loaded_ = false;
};
#endif

}  // namespace

std::vector<std::size_t> order_nics(const std::vector<NicDistance>& nics) {
  std::vector<std::size_t> order(nics.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t x, std::size_t y) {
    const NicDistance& a = nics[x];
    const NicDistance& b = nics[y];
    return std::make_tuple(-static_cast<std::int64_t>(a.common_depth), !a.same_numa, a.load, a.name) <
           std::make_tuple(-static_cast<std::int64_t>(b.common_depth), !b.same_numa, b.load, b.name);
  });
  return order;
}

std::vector<Nic> nics_near(const std::string& target_pci, bool rdma) {
  std::vector<Nic> all = list(rdma);
  const std::int32_t numa =
      target_pci.empty() ? own_numa_node() : numa_of(fs::path("/sys/bus/pci/devices") / target_pci);
#ifdef FAULTLINE_HWLOC
  if (!target_pci.empty()) {
    // For the life of the process: every load reads the table of PCI names, half a megabyte that libpciaccess never
    // frees.
    static const Machine& machine = *new Machine;
    for (Nic& nic : all) nic.depth = machine.common_depth(nic.pci, target_pci);
  }
#endif
  std::vector<NicDistance> distances;
  for (const Nic& nic : all) distances.push_back({nic.depth, numa >= 0 && nic.numa_node == numa, 0, nic.name});
  std::vector<Nic> ordered;
  for (const std::size_t i : order_nics(distances)) ordered.push_back(all[i]);
  return ordered;
}

}  // namespace faultline::transport

// Which NIC is near a device or a piece of memory: by the machine's topology (hwloc), nearest common ancestor first.
// Where nothing is known (no hwloc, a virtual machine) every NIC is equally far and the order of names decides.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace faultline::transport {

struct Nic {
  std::string name;             // of the RDMA device ("mlx5_0") or network interface ("eth0")
  std::string pci;              // "0000:03:00.0"; empty where it has none
  std::int32_t numa_node = -1;  // -1: unknown
  std::uint32_t depth = 0;      // of the deepest object that contains NIC and target: larger is nearer
};

/// A NIC as a choice sees it, without the machine.
struct NicDistance {
  std::uint32_t common_depth = 0;
  bool same_numa = false;
  std::uint32_t load = 0;  // flows that use it already
  std::string name;
};
/// Nearest first: deeper common ancestor, then the same NUMA node, then less load, then name. Pure.
std::vector<std::size_t> order_nics(const std::vector<NicDistance>& nics);

/// RDMA devices, or (rdma = false) network interfaces except loopback, nearest to the PCI device `target_pci` first (a
/// GPU); empty target: nearest to the calling thread's NUMA node. Empty if the machine has none.
std::vector<Nic> nics_near(const std::string& target_pci, bool rdma);

}  // namespace faultline::transport

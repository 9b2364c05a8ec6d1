// Owning handles of the verbs objects, and the choice of device, port and GID.
#pragma once

#include <infiniband/verbs.h>

#include <memory>
#include <string>

#include "backend/transport/verbs_transport.h"

namespace faultline::transport {

template <class T, int (*Destroy)(T*)>
struct VerbsDeleter {
  void operator()(T* object) const { Destroy(object); }
};
using ContextHandle = std::unique_ptr<ibv_context, VerbsDeleter<ibv_context, ibv_close_device>>;
using PdHandle = std::unique_ptr<ibv_pd, VerbsDeleter<ibv_pd, ibv_dealloc_pd>>;
using ChannelHandle = std::unique_ptr<ibv_comp_channel, VerbsDeleter<ibv_comp_channel, ibv_destroy_comp_channel>>;
using CqHandle = std::unique_ptr<ibv_cq, VerbsDeleter<ibv_cq, ibv_destroy_cq>>;
using QpHandle = std::unique_ptr<ibv_qp, VerbsDeleter<ibv_qp, ibv_destroy_qp>>;
using MrHandle = std::unique_ptr<ibv_mr, VerbsDeleter<ibv_mr, ibv_dereg_mr>>;

struct VerbsDevice {
  ContextHandle context;
  std::string name;
  std::string pci;  // empty for software devices
  std::int32_t numa_node = -1;
  ibv_device_attr attributes{};
  ibv_port_attr port{};
  ibv_gid gid{};
  int gid_index = 0;
  bool ethernet = true;
  bool soft = false;  // rxe
};

inline constexpr std::size_t kRailsMax = 8;  // an MI300X node has eight NICs

/// The devices that the settings name, or the nearest ones. Throws std::runtime_error if there are none.
std::vector<std::string> choose_devices(const VerbsSettings& settings);
/// Throws std::runtime_error that says what is missing.
VerbsDevice open_verbs_device(const VerbsSettings& settings, const std::string& name);

/// What a peer must know of one side's queue pairs; goes over the control connection.
struct QpInfo {
  std::uint32_t qps = 0;
  std::uint32_t mtu = 0;  // enum ibv_mtu
  std::uint32_t lid = 0;
  ibv_gid gid{};
  struct One {
    std::uint32_t number = 0;
    std::uint32_t psn = 0;
  } one[16];
};
inline constexpr std::uint32_t kQpsMax = 16;

QpHandle make_qp(ibv_pd* pd, ibv_cq* cq, const VerbsSettings& settings, std::uint32_t receives);
/// INIT -> RTR -> RTS towards the peer's queue pair. False if the kernel refuses.
bool connect_qp(ibv_qp* qp, const VerbsDevice& device, const VerbsSettings& settings, const QpInfo& peer,
                const QpInfo& mine, std::uint32_t index);

}  // namespace faultline::transport

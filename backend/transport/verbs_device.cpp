#include "backend/transport/verbs_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "backend/transport/nic_choice.h"

namespace faultline::transport {
namespace {

struct DeviceList {
  int count = 0;
  ibv_device** devices = ibv_get_device_list(&count);
  ~DeviceList() {
    if (devices) ibv_free_device_list(devices);
  }
};

bool maps_ipv4(const ibv_gid& gid) {
  static constexpr std::uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(gid.raw, kPrefix, sizeof kPrefix) == 0;
}

/// By scanning: indices differ between devices and after every change of an address.
int choose_gid(ibv_context* context, std::uint32_t port, int count) {
  int best = 0;
  int best_score = -1;
  for (int index = 0; index < count; ++index) {
    ibv_gid_entry entry{};
    if (ibv_query_gid_ex(context, port, static_cast<std::uint32_t>(index), &entry, 0) != 0) continue;
    const int score = entry.gid_type != IBV_GID_TYPE_ROCE_V2 ? 0 : maps_ipv4(entry.gid) ? 2 : 1;
    if (score > best_score) {
      best_score = score;
      best = index;
    }
  }
  return best;
}

}  // namespace

std::vector<std::string> verbs_devices(const std::string& near) {
  std::vector<std::string> active;
  {
    const DeviceList list;
    for (int i = 0; i < list.count; ++i) {
      const ContextHandle context(ibv_open_device(list.devices[i]));
      ibv_port_attr port{};
      if (context && ibv_query_port(context.get(), 1, &port) == 0 && port.state == IBV_PORT_ACTIVE)
        active.emplace_back(ibv_get_device_name(list.devices[i]));
    }
  }
  std::vector<std::string> names;
  for (const Nic& nic : nics_near(near, true)) {
    if (std::find(active.begin(), active.end(), nic.name) != active.end()) names.push_back(nic.name);
  }
  return names;
}

std::vector<std::string> choose_devices(const VerbsSettings& settings) {
  std::vector<std::string> names = settings.devices;
  if (names.empty()) {
    names = verbs_devices(settings.near);
    if (names.empty()) throw std::runtime_error("no RDMA device with an active port");
    names.resize(std::min<std::size_t>(names.size(), settings.rails));
  }
  if (names.size() > kRailsMax)
    throw std::runtime_error(fmt::format("{} RDMA devices, at most {} make rails", names.size(), kRailsMax));
  return names;
}

VerbsDevice open_verbs_device(const VerbsSettings& settings, const std::string& name) {
  VerbsDevice device;
  const DeviceList list;
  for (int i = 0; i < list.count; ++i) {
    if (name == ibv_get_device_name(list.devices[i])) device.context.reset(ibv_open_device(list.devices[i]));
  }
  if (!device.context) throw std::runtime_error(fmt::format("no RDMA device '{}'", name));
  device.name = name;
  for (const Nic& nic : nics_near(settings.near, true)) {
    if (nic.name != name) continue;
    device.pci = nic.pci;
    device.numa_node = nic.numa_node;
  }
  device.soft = name.starts_with("rxe");
  if (ibv_query_device(device.context.get(), &device.attributes) != 0 ||
      ibv_query_port(device.context.get(), static_cast<std::uint8_t>(settings.port), &device.port) != 0) {
    throw std::runtime_error(fmt::format("{}: cannot be queried: {}", name, std::strerror(errno)));
  }
  if (device.port.state != IBV_PORT_ACTIVE)
    throw std::runtime_error(fmt::format("{} port {}: {}", name, settings.port, ibv_port_state_str(device.port.state)));
  device.ethernet = device.port.link_layer == IBV_LINK_LAYER_ETHERNET;
  device.gid_index = settings.gid_index >= 0 ? static_cast<int>(settings.gid_index)
                                             : choose_gid(device.context.get(), settings.port, device.port.gid_tbl_len);
  if (ibv_query_gid(device.context.get(), static_cast<std::uint8_t>(settings.port), device.gid_index, &device.gid) !=
      0) {
    throw std::runtime_error(fmt::format("{} port {}: no GID at index {}", name, settings.port, device.gid_index));
  }
  return device;
}

QpHandle make_qp(ibv_pd* pd, ibv_cq* cq, const VerbsSettings& settings, std::uint32_t receives) {
  ibv_qp_init_attr init{};
  init.send_cq = init.recv_cq = cq;
  init.qp_type = IBV_QPT_RC;
  init.sq_sig_all = 0;
  init.cap.max_send_wr = settings.send_queue + 1;  // and the mark behind everything, when it is given up
  init.cap.max_recv_wr = receives;
  init.cap.max_send_sge = settings.sge_max;
  init.cap.max_recv_sge = 1;
  init.cap.max_inline_data = settings.inline_max;
  QpHandle qp(ibv_create_qp(pd, &init));
  if (!qp) return nullptr;
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_INIT;
  attr.port_num = static_cast<std::uint8_t>(settings.port);
  attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
  if (ibv_modify_qp(qp.get(), &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS) != 0)
    return nullptr;
  return qp;
}

bool connect_qp(ibv_qp* qp, const VerbsDevice& device, const VerbsSettings& settings, const QpInfo& peer,
                const QpInfo& mine, std::uint32_t index) {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RTR;
  attr.path_mtu = static_cast<ibv_mtu>(std::min(peer.mtu, mine.mtu));
  attr.dest_qp_num = peer.one[index].number;
  attr.rq_psn = peer.one[index].psn;
  attr.max_dest_rd_atomic = 1;
  attr.min_rnr_timer = static_cast<std::uint8_t>(settings.min_rnr_timer);
  attr.ah_attr.port_num = static_cast<std::uint8_t>(settings.port);
  attr.ah_attr.dlid = static_cast<std::uint16_t>(peer.lid);
  if (device.ethernet) {
    attr.ah_attr.is_global = 1;
    attr.ah_attr.grh.dgid = peer.gid;
    attr.ah_attr.grh.sgid_index = static_cast<std::uint8_t>(device.gid_index);
    attr.ah_attr.grh.hop_limit = 64;
    attr.ah_attr.grh.traffic_class = static_cast<std::uint8_t>(settings.traffic_class);
  }
  if (ibv_modify_qp(qp, &attr,
                    IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                        IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER) != 0) {
    return false;
  }
  attr.qp_state = IBV_QPS_RTS;
  attr.sq_psn = mine.one[index].psn;
  attr.timeout = static_cast<std::uint8_t>(settings.timeout);
  attr.retry_cnt = static_cast<std::uint8_t>(device.soft ? std::min(settings.retry_count, 6U) : settings.retry_count);
  attr.rnr_retry = static_cast<std::uint8_t>(settings.rnr_retry);
  attr.max_rd_atomic = 1;
  return ibv_modify_qp(qp, &attr,
                       IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                           IBV_QP_MAX_QP_RD_ATOMIC) == 0;
}

}  // namespace faultline::transport

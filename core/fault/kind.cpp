#include "core/fault/kind.h"

#include "core/base/assert.h"

namespace faultline::fault {
namespace {

constexpr std::array kGpu{TargetKind::gpu};
constexpr std::array kNic{TargetKind::nic};
constexpr std::array kXgmi{TargetKind::xgmi};
constexpr std::array kLink{TargetKind::cable, TargetKind::uplink, TargetKind::xgmi};
constexpr std::array kNetwork{TargetKind::cable, TargetKind::uplink};
constexpr std::array kSwitch{TargetKind::switch_};
constexpr std::array kNode{TargetKind::node};
constexpr std::array kPower{TargetKind::rack, TargetKind::power};
constexpr std::array kPartition{TargetKind::rack, TargetKind::node};
constexpr std::array kRouter{TargetKind::router};

constexpr std::array<KindInfo, kFaultKindCount> kCatalogue{{
    {FaultKind::gpu_failstop, kGpu, Parameters::none, true, false, SafetyClass::s0,
     "the GPU's worker and its memory (KV blocks, expert weights) are gone",
     "operations on the GPU fail; peers' RDMA writes end after their retransmission budget, the group's barrier waits"},
    {FaultKind::gpu_ecc, kGpu, Parameters::contained, true, false, SafetyClass::s2,
     "an uncorrectable memory error: with probability `contained` only the process dies, else the GPU is lost as in "
     "gpu.failstop",
     "a RAS event and a bad-page count; the process aborts; an exporter marks the GPU unhealthy within its poll"},
    {FaultKind::gpu_correctable, kGpu, Parameters::none, true, true, SafetyClass::s1,
     "nothing by itself: a precursor; `then` says what it leads to and how often", "error counters rise"},
    {FaultKind::gpu_hang, kGpu, Parameters::none, true, true, SafetyClass::s0,
     "the GPU stops making progress; its process, connections and NIC stay up",
     "no error at all: a step that does not end, found by a deadline or a probe that needs the device"},
    {FaultKind::gpu_slow, kGpu, Parameters::slowdown, true, true, SafetyClass::s1,
     "every operation of the GPU takes `factor` times as long (power cap, thermal throttling)",
     "step times of the whole group rise to those of the slowest rank; nothing fails"},
    {FaultKind::gpu_sdc, kGpu, Parameters::none, true, true, SafetyClass::s0,
     "results of the GPU are wrong while it lasts: requests of its instance are tainted (counted as hit), and none "
     "fails",
     "nothing; wrong tokens or accuracy that drifts, found by a diagnostic or never"},
    {FaultKind::pcie_degrade, kGpu, Parameters::share, true, false, SafetyClass::s2,
     "the GPU's NIC keeps `factor` of its bandwidth (PCIe width or rate downgrade)",
     "KV transfers and the exchange slow down; nothing fails unless a deadline passes"},
    {FaultKind::process_crash, kGpu, Parameters::none, false, true, SafetyClass::s0,
     "the worker process of the GPU dies (crash, out of memory); the hardware stays healthy",
     "an exit code; the ranks that wait for it end or wait, as the engine does"},
    {FaultKind::xgmi_down, kXgmi, Parameters::none, true, false, SafetyClass::s2,
     "the link between two GPUs of a node carries nothing; without transit their group fails",
     "a RAS xgmi_wafl event; collectives abort or detour"},
    {FaultKind::xgmi_degrade, kXgmi, Parameters::share, true, false, SafetyClass::s2,
     "the link between two GPUs of a node keeps `factor` of its capacity",
     "the all-to-all within the node slows to its slowest link; nothing fails"},
    {FaultKind::nic_down, kNic, Parameters::none, true, false, SafetyClass::s1, "the NIC and its cables carry nothing",
     "a port event on its own node; remote writes end after their retransmission budget"},
    {FaultKind::nic_flap, kNic, Parameters::flap, false, false, SafetyClass::s1,
     "the NIC goes down for `down`, then up for `up`, `cycles` times",
     "port down and port up events; a transfer fails only if one outage outlasts its retransmission budget"},
    {FaultKind::link_down, kLink, Parameters::none, true, false, SafetyClass::s1,
     "the link carries nothing in either direction",
     "a port event at both ends; transfers on paths over it end after their retransmission budget"},
    {FaultKind::link_degrade, kLink, Parameters::share, true, false, SafetyClass::s1,
     "the link keeps `factor` of its capacity in both directions (lossy cable, width or rate downgrade)",
     "transfers slow down; error counters rise; nothing fails unless a deadline passes"},
    {FaultKind::link_flap, kLink, Parameters::flap, false, false, SafetyClass::s1,
     "the link goes down for `down`, then up for `up`, `cycles` times",
     "port down and port up events; a transfer fails only if one outage outlasts its retransmission budget"},
    {FaultKind::link_lossy, kNetwork, Parameters::loss, true, false, SafetyClass::s1,
     "the share `loss` of the packets is lost; go-back-N leaves (1 - p) / (1 - p + p w) of the capacity, w packets in "
     "flight",
     "symbol, FEC and CRC counters; slow transfers; probes of a few bytes pass"},
    {FaultKind::link_oneway, kNetwork, Parameters::none, true, false, SafetyClass::s1,
     "the link carries nothing from its first end (NIC, lower switch) to the other; the way back works",
     "some transfers time out; the port stays up and probes pass"},
    {FaultKind::switch_down, kSwitch, Parameters::none, true, false, SafetyClass::s1,
     "the switch and all its links carry nothing",
     "port events on every attached NIC or switch; transfers over it end after their retransmission budget"},
    {FaultKind::pfc_storm, kSwitch, Parameters::share, true, false, SafetyClass::s3,
     "pause frames hold back the tree below: every link of the switch keeps `factor` of its capacity",
     "PFC counters and round-trip times rise; steps slow down; nothing fails"},
    {FaultKind::kv_fail, kNode, Parameters::none, true, true, SafetyClass::s0,
     "KV transfers from and to the node stall and fail; nothing else does",
     "a transfer ends after the retransmission budget; probes of node and port pass"},
    {FaultKind::node_crash, kNode, Parameters::none, true, false, SafetyClass::s2,
     "every process on the node stops at once; its GPUs, memory and NICs are gone until it has booted",
     "heartbeats stop; connections to it fail after their budget or are reset"},
    {FaultKind::node_maintenance, kNode, Parameters::drain, true, false, SafetyClass::s1,
     "planned: the fleet is told, drains the node's instances for `drain`, then the node is down as in node.crash",
     "the notice; then as node.crash, without surprise where the drain was long enough"},
    {FaultKind::rack_power, kPower, Parameters::none, true, false, SafetyClass::s3,
     "every node and switch on the rack or feed loses power",
     "as node.crash and switch.down of all of them at one instant"},
    {FaultKind::cooling_loss, kPower, Parameters::cooling, true, false, SafetyClass::s1,
     "every GPU on the rack or feed slows by `factor`; `shutdown_after` later all of it loses power",
     "temperatures and step times rise; then as rack.power"},
    {FaultKind::partition, kPartition, Parameters::none, true, true, SafetyClass::s1,
     "the rack or node cannot talk to the rest, control plane included; both sides go on",
     "heartbeats stop on both sides; leases expire; two halves may act"},
    {FaultKind::router_crash, kRouter, Parameters::none, true, true, SafetyClass::s0,
     "the router's process dies with its queue; its host stays up",
     "clients see connections reset; other routers go on"},
    {FaultKind::registry_loss,
     {},
     Parameters::none,
     true,
     true,
     SafetyClass::s0,
     "the registry (etcd, NATS) is gone: leases that it holds expire together",
     "healthy components are declared lost at one instant"},
    {FaultKind::storage_slow,
     {},
     Parameters::slowdown,
     true,
     true,
     SafetyClass::s0,
     "loading weights takes `factor` times as long",
     "restarts take longer; nothing fails"},
    {FaultKind::rollout_bad,
     {},
     Parameters::none,
     true,
     true,
     SafetyClass::s0,
     "workers that start while it lasts fail their health check at the end of the start",
     "restarts fail; running workers go on"},
    {FaultKind::clock_skew, kNode, Parameters::none, true, true, SafetyClass::s1, "the node's clock is off",
     "leases and deadlines end early or late"},
    {FaultKind::overload,
     {},
     Parameters::none,
     true,
     true,
     SafetyClass::s0,
     "not injected: load beyond what the survivors carry, by a fault or by arrivals; it emerges",
     "queues grow, deadlines pass, retries multiply"},
    {FaultKind::placebo,
     {},
     Parameters::none,
     true,
     true,
     SafetyClass::s0,
     "nothing: the control case that shows how much two runs differ without a cause",
     "nothing"},
}};

constexpr bool in_order() {
  for (std::size_t i = 0; i < kCatalogue.size(); ++i) {
    if (static_cast<std::size_t>(kCatalogue[i].kind) != i) return false;
  }
  return true;
}
static_assert(in_order(), "the table is indexed by FaultKind");

}  // namespace

const KindInfo& info(FaultKind kind) {
  FAULTLINE_ASSERT(static_cast<std::size_t>(kind) < kCatalogue.size(), "kind={}", static_cast<int>(kind));
  return kCatalogue[static_cast<std::size_t>(kind)];
}

std::span<const KindInfo> catalogue() { return kCatalogue; }

}  // namespace faultline::fault

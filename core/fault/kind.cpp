#include "core/fault/kind.h"

#include "core/base/assert.h"

namespace faultline::fault {
namespace {

constexpr std::array kGpu{TargetKind::gpu};
constexpr std::array kNic{TargetKind::nic};
constexpr std::array kLink{TargetKind::link};
constexpr std::array kSwitch{TargetKind::switch_};
constexpr std::array kNode{TargetKind::node};
constexpr std::array kPower{TargetKind::rack, TargetKind::power};
constexpr std::array kRouter{TargetKind::router};

constexpr std::array<KindInfo, kFaultKindCount> kCatalogue{{
    {FaultKind::gpu_failstop, kGpu, Parameters::none, true, false, SafetyClass::s0,
     "the GPU's worker and its memory (KV blocks, expert weights) are gone",
     "operations on the GPU fail; peers' RDMA writes end after their retransmission budget, the group's barrier waits"},
    {FaultKind::gpu_hang, kGpu, Parameters::none, true, true, SafetyClass::s0,
     "the GPU stops making progress; its process, connections and NIC stay up",
     "no error at all: a step that does not end, found by a deadline or a probe that needs the device"},
    {FaultKind::gpu_slow, kGpu, Parameters::slowdown, true, true, SafetyClass::s1,
     "every operation of the GPU takes `factor` times as long (power cap, thermal throttling)",
     "step times of the whole group rise to those of the slowest rank; nothing fails"},
    {FaultKind::nic_down, kNic, Parameters::none, true, false, SafetyClass::s1, "the NIC and its cables carry nothing",
     "a port event on its own node; remote writes end after their retransmission budget"},
    {FaultKind::link_down, kLink, Parameters::none, true, false, SafetyClass::s1,
     "the link carries nothing in either direction",
     "a port event at both ends; transfers on paths over it end after their retransmission budget"},
    {FaultKind::link_degrade, kLink, Parameters::share, true, false, SafetyClass::s1,
     "the link keeps `factor` of its capacity in both directions (lossy cable, width or rate downgrade)",
     "transfers slow down; error counters rise; nothing fails unless a deadline passes"},
    {FaultKind::link_flap, kLink, Parameters::flap, false, false, SafetyClass::s1,
     "the link goes down for `down`, then up for `up`, `cycles` times",
     "port down and port up events; a transfer fails only if one outage outlasts its retransmission budget"},
    {FaultKind::switch_down, kSwitch, Parameters::none, true, false, SafetyClass::s1,
     "the switch and all its links carry nothing",
     "port events on every attached NIC or switch; transfers over it end after their retransmission budget"},
    {FaultKind::node_crash, kNode, Parameters::none, true, false, SafetyClass::s2,
     "every process on the node stops at once; its GPUs, memory and NICs are gone until it has booted",
     "heartbeats stop; connections to it fail after their budget or are reset"},
    {FaultKind::rack_power, kPower, Parameters::none, true, false, SafetyClass::s3,
     "every node and switch on the rack or feed loses power",
     "as node.crash and switch.down of all of them at one instant"},
    {FaultKind::router_crash, kRouter, Parameters::none, true, true, SafetyClass::s0,
     "the router's process dies with its queue; its host stays up",
     "clients see connections reset; other routers go on"},
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

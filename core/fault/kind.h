// What can fail: the kinds of fault, and for each what it targets, which parameters it takes and what systems observe.
// A kind states a *cause* (a rate belongs to it), never a symptom such as a timeout. faults/catalogue.yaml adds live
// recipes and measured rates with their sources; a test keeps the two in step.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace faultline::fault {

enum class FaultKind : std::uint8_t {
  gpu_failstop,
  gpu_hang,
  gpu_slow,
  nic_down,
  link_down,
  link_degrade,
  link_flap,
  switch_down,
  node_crash,
  rack_power,
  router_crash,
  placebo,
};
inline constexpr std::size_t kFaultKindCount = 12;

constexpr std::array<std::string_view, kFaultKindCount> enum_names(const FaultKind*) {
  return {"gpu.failstop", "gpu.hang",    "gpu.slow",   "nic.down",   "link.down",    "link.degrade",
          "link.flap",    "switch.down", "node.crash", "rack.power", "router.crash", "placebo"};
}
constexpr std::string_view name_of(FaultKind kind) { return enum_names(&kind)[static_cast<std::size_t>(kind)]; }

/// What a fault can be aimed at. A link is an xGMI link, a NIC cable or a fabric link; a switch is of any tier.
enum class TargetKind : std::uint8_t { gpu, nic, link, switch_, node, rack, power, router };
inline constexpr std::size_t kTargetKindCount = 8;
constexpr std::array<std::string_view, kTargetKindCount> enum_names(const TargetKind*) {
  return {"gpu", "nic", "link", "switch", "node", "rack", "power", "router"};
}
constexpr std::string_view name_of(TargetKind kind) { return enum_names(&kind)[static_cast<std::size_t>(kind)]; }

/// What a live injection of the kind may need or break.
enum class SafetyClass : std::uint8_t {
  s0,  // reversible, no privilege beyond the process
  s1,  // reversible, root on the host or write access to the switch
  s2,  // needs a reset or a reboot to undo
  s3,  // may need hands in the rack or shortens hardware life; never by default
};
constexpr std::array<std::string_view, 4> enum_names(const SafetyClass*) { return {"S0", "S1", "S2", "S3"}; }

/// Which of the optional keys of a fault specification a kind takes; every one that it takes it also needs.
enum class Parameters : std::uint8_t {
  none,
  slowdown,  // factor > 1: the GPU's service time is multiplied by it
  share,     // 0 < factor < 1: the share of the link's capacity that remains
  flap,      // down, up (durations), cycles
};

struct KindInfo {
  FaultKind kind;
  std::span<const TargetKind> targets;  // empty: takes any target or none
  Parameters parameters;
  bool takes_duration;  // may be undone by `duration` or `repair`; a flap's length follows from its parameters
  bool process_only;    // the hardware stays healthy: a restart in place is enough
  SafetyClass safety;
  std::string_view effect;    // what it does to the world
  std::string_view observed;  // what controllers and peers can see of it, at the earliest
};

const KindInfo& info(FaultKind kind);
/// In the order of FaultKind.
std::span<const KindInfo> catalogue();

}  // namespace faultline::fault

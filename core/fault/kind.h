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
  gpu_ecc,
  gpu_correctable,
  gpu_hang,
  gpu_slow,
  gpu_sdc,
  pcie_degrade,
  process_crash,
  xgmi_down,
  xgmi_degrade,
  nic_down,
  nic_flap,
  link_down,
  link_degrade,
  link_flap,
  link_lossy,
  link_oneway,
  switch_down,
  pfc_storm,
  kv_fail,
  node_crash,
  node_maintenance,
  rack_power,
  cooling_loss,
  partition,
  router_crash,
  registry_loss,
  storage_slow,
  rollout_bad,
  clock_skew,
  overload,
  placebo,
};
inline constexpr std::size_t kFaultKindCount = 32;

constexpr std::array<std::string_view, kFaultKindCount> enum_names(const FaultKind*) {
  return {"gpu.failstop", "gpu.ecc",       "gpu.correctable", "gpu.hang",         "gpu.slow",    "gpu.sdc",
          "pcie.degrade", "process.crash", "xgmi.down",       "xgmi.degrade",     "nic.down",    "nic.flap",
          "link.down",    "link.degrade",  "link.flap",       "link.lossy",       "link.oneway", "switch.down",
          "pfc.storm",    "kv.fail",       "node.crash",      "node.maintenance", "rack.power",  "cooling.loss",
          "partition",    "router.crash",  "registry.loss",   "storage.slow",     "rollout.bad", "clock.skew",
          "overload",     "placebo"};
}
constexpr std::string_view name_of(FaultKind kind) { return enum_names(&kind)[static_cast<std::size_t>(kind)]; }

/// What a fault can be aimed at. A cable joins a NIC and a leaf, an uplink two switches, an xgmi link two GPUs of a
/// node; a switch is of any tier.
enum class TargetKind : std::uint8_t { gpu, nic, cable, uplink, xgmi, switch_, node, rack, power, router };
inline constexpr std::size_t kTargetKindCount = 10;
constexpr std::array<std::string_view, kTargetKindCount> enum_names(const TargetKind*) {
  return {"gpu", "nic", "cable", "uplink", "xgmi", "switch", "node", "rack", "power", "router"};
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
  slowdown,   // factor > 1: the service time is multiplied by it
  share,      // 0 < factor < 1: the share of the capacity that remains
  flap,       // down, up (durations), cycles
  loss,       // 0 < loss < 1: the share of the packets that is lost
  contained,  // 0 <= contained <= 1: the probability that only the process dies
  cooling,    // factor > 1 at once, then `shutdown_after` the power goes
  drain,      // drain: the notice that the fleet gets before the node goes
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
/// In the order of FaultKind; the rows of docs/faults.md.
std::span<const KindInfo> catalogue();

}  // namespace faultline::fault

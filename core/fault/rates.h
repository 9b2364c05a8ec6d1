// Rate profiles: how often everything in a fleet fails, as somebody measured it. faults/profiles/*.yaml hold the
// published ones; `faultline faults fit` makes one from a site's own log. A profile is a list of sources; each says
// what it *includes*, and two sources that include the same cause cannot be added: that is an error, within one profile
// and between several.
//
//   name: llama3-h100
//   borrowed_from: 16,384 H100 80GB in 54 days of training (Meta); nothing in it was measured on MI300X
//   sources:
//     - {id: gpu, kind: gpu.failstop, per: gpu, rate_per_hour: 6.97e-6, includes: [gpu, xgmi],
//        events: 148, exposure_hours: 21.23e6, evidence: computed, source: "…", repair: {mean: 1 h, spread: 1}}
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/document.h"
#include "core/fault/laws.h"
#include "core/fault/spec.h"

namespace faultline::fault {

enum class Evidence : std::uint8_t {
  read,      // in the authors' own text
  quoted,    // in a text that quotes it
  computed,  // from the counts that the source states
  fitted,    // by this program, from a log
  assumed,
};
constexpr std::array<std::string_view, 5> enum_names(const Evidence*) {
  return {"read", "quoted", "computed", "fitted", "assumed"};
}

/// A cause of failures; what a source's count may contain. gpu: the device stops, without its HBM and xGMI; node: host
/// parts and unplanned host maintenance; software: bugs of engine, driver and firmware that end a process.
enum class Covers : std::uint8_t {
  gpu,
  gpu_hang,
  gpu_slow,
  sdc,
  hbm,
  xgmi,
  nic,
  link,
  switch_,
  node,
  power,
  cooling,
  software
};
inline constexpr std::size_t kCoversCount = 13;
constexpr std::array<std::string_view, kCoversCount> enum_names(const Covers*) {
  return {"gpu",  "gpu_hang", "gpu_slow", "sdc",   "hbm",     "xgmi",    "nic",
          "link", "switch",   "node",     "power", "cooling", "software"};
}

/// One source of failures: a kind that strikes components of one sort at one rate.
struct RateSource {
  std::string id;  // unique in the profile
  FaultKind kind = FaultKind::placebo;
  TargetKind per = TargetKind::gpu;  // whose hours the rate counts; one that the kind targets
  double rate_per_hour = 0;          // mean over the units, of one unit that is up
  std::vector<Covers> includes;
  LifeLaw life;
  std::optional<RepairLaw> repair;                // nullopt: the engine's restart is all there is (a process that died)
  std::optional<double> factor, loss, contained;  // see Parameters in kind.h
  Lemons lemons;
  CommonCause common;
  std::vector<ChainLink> then;
  Repeat repeat;
  // Where the rate comes from. events / exposure_hours must give the rate within 2 %.
  std::optional<double> events, exposure_hours;
  Evidence evidence = Evidence::quoted;
  std::string source;
};
void describe(config::Fields& f, RateSource& s);

struct RateProfile {
  std::string name;
  std::string description;
  std::string borrowed_from;  // the fleet it was measured on; required
  std::vector<RateSource> sources;
};
/// Checks ids, kinds and their targets, and that no two sources include the same cause.
void describe(config::Fields& f, RateProfile& s);

/// Reads a profile file. Throws config::ConfigError with all errors.
RateProfile load_profile(const std::string& text, const std::string& file);
/// Pairs of sources of different profiles that include the same cause, one line each; empty where they can be added.
std::vector<std::string> overlaps(const std::vector<RateProfile>& profiles);
/// What none of the sources includes: such failures do not happen in a run with this profile.
std::vector<Covers> not_covered(const RateProfile& profile);

/// All sources that strike one sort of component, added; 0 where there is none.
double rate_per_hour(const RateProfile& profile, TargetKind per);

/// The profile as faults of an experiment: one random entry a source, over all components of its sort (ids
/// "<profile>/<source>"). `acceleration` multiplies every rate and divides the wait for a repeat: years
/// of failures in a run of minutes; repairs keep their length.
std::vector<FaultSpec> specs_of(const RateProfile& profile, double acceleration = 1);

}  // namespace faultline::fault

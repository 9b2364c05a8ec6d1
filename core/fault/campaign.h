// A campaign: a rule that makes lists of faults, one list a run ("case"). Files in faults/campaigns, named by an
// experiment
// (`faults: {campaign: FILE}` where it makes one case) or by the command line (`faultline run X --campaign FILE`).
//
//   {name: …, kind: scripted, faults: [ … ]}                                             # one case: these faults
//   {name: …, kind: profile, profiles: [../profiles/llama3-h100.yaml], acceleration: 1000}  # one case: random by rates
//   {name: …, kind: single, targets: "inst-0*", at: [20 s], phases: [prefill_step], repair: 30 s}
//                                              # every component with every kind that fits it, at every instant and
//                                              phase
//   {name: …, kind: second, first: {…}, second: [{…}], phases: [recovery_detected, …]}   # one case a phase and second
//   fault {name: …, kind: rolling, targets: "node-*", begin: 60 s, drain: 60 s, down: 300 s, pause: 60 s, at_a_time: 1}
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/document.h"
#include "core/fault/rates.h"
#include "core/fault/schedule.h"
#include "core/fault/spec.h"

namespace faultline::fault {

enum class CampaignKind : std::uint8_t { scripted, profile, single, second, rolling };
constexpr std::array<std::string_view, 5> enum_names(const CampaignKind*) {
  return {"scripted", "profile", "single", "second", "rolling"};
}

/// A fault that a campaign gives its trigger, with typical() parameters.
struct BareFault {
  FaultKind kind = FaultKind::placebo;
  std::string target;
  Duration delay{0};  // after the trigger
  Duration repair = kForever;
  config::Mark mark;
};
void describe(config::Fields& f, BareFault& s);

struct CampaignSpec {
  std::string name, description;
  CampaignKind kind = CampaignKind::scripted;
  std::vector<FaultSpec> faults;      // scripted
  std::vector<RateProfile> profiles;  // profile
  double acceleration = 1;            // profile: multiplies every rate
  std::optional<std::int64_t> max;    // profile: events of one source at most
  std::vector<FaultKind> kinds;       // single: empty = all that the world can apply
  std::string targets = "*";          // single, rolling: a pattern over component names
  std::vector<Instant> at;            // single
  std::vector<CausalEvent> phases;    // single: not of a recovery; second: of a recovery (empty = all of them)
  Duration repair = kForever;         // single
  FaultSpec first;                    // second
  std::vector<BareFault> second;      // second
  Instant begin{0};                   // rolling
  Duration drain{0}, down{0}, pause{0};
  std::int64_t at_a_time = 1;
  config::Mark mark;
};

/// Reads a campaign; profiles are read through `reader`, relative to the file's folder. Errors go to `diagnostics`.
CampaignSpec read_campaign(const std::string& text, const std::string& file, const config::FileReader& reader,
                           config::Diagnostics& diagnostics);

/// One run of a campaign.
struct CampaignCase {
  std::string name;  // unique: "gpu.failstop node-0.gpu-1 at 20 s"
  std::vector<FaultSpec> faults;
};

/// The cases in a fixed order. `can_apply` leaves kinds out of `single` campaigns that name none (an empty function:
/// all); a kind that the campaign names and the world lacks is an error. Errors (a pattern that matches nothing) go to
/// `diagnostics`.
std::vector<CampaignCase> cases_of(const CampaignSpec& campaign, const Candidates& candidates,
                                   const std::function<bool(FaultKind)>& can_apply, config::Diagnostics& diagnostics);

/// A fault of the kind with typical parameters: a slow part at half its speed, 1 % loss, a flap of 3 x 1 s.
FaultSpec typical(FaultKind kind);

/// The faults as one YAML value, such as "[{kind: …}, {…}]".
std::string yaml_of(std::vector<FaultSpec> faults);

}  // namespace faultline::fault

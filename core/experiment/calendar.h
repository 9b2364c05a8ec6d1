// A maintenance calendar: windows in which nodes are drained, taken out and brought back. Each becomes a fault of kind
// node.maintenance, so that whatever runs an experiment knows planned work already.
//
//   maintenance:
//     begins: 2026-03-01T00:00:00Z     # when the run starts; needed where the calendar has dates
//     drain: 10 min                    # from the notice to the shutdown; the notice comes so long before the window
//     windows:
//       - {target: node-3, from: 2 h, to: 5 h}
//       - {target: "node-1*", from: 30 h, to: 31 h}
//     calendar: march.csv              # columns target,start,end: hours of the run, or UTC instants
//
// What lies after the run's end, or was over before it began, is left out; a window that has begun already starts with
// the run.
#pragma once

#include <string>
#include <vector>

#include "core/config/fields.h"
#include "core/fault/spec.h"

namespace faultline::experiment {

/// One window; targets are node names, in which * stands for any text, or an alias such as inst-0.p-0.
struct MaintenanceWindow {
  std::string target;
  Duration from{0}, to{0};
  config::Mark mark;
};
void describe(config::Fields& f, MaintenanceWindow& s);

struct MaintenanceSpec {
  std::string begins;
  Duration drain{600'000'000'000};
  std::vector<MaintenanceWindow> windows;
  std::string calendar;
  config::Mark mark;
};
void describe(config::Fields& f, MaintenanceSpec& s);

/// The faults of the calendar, by time. `nodes`: of the topology, node-0 …; `end`: of the run, kForever where it has
/// none. Errors (no node matches, a window that ends before it starts, two windows of one node that overlap, a file
/// that cannot be read) go to `diagnostics`.
std::vector<fault::FaultSpec> maintenance_faults(const MaintenanceSpec& spec, const std::string& folder,
                                                 std::uint32_t nodes, Duration end, const config::FileReader& reader,
                                                 config::Diagnostics& diagnostics);

}  // namespace faultline::experiment

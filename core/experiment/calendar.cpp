#include "core/experiment/calendar.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "core/calibration/delimited.h"
#include "core/fault/fit.h"
#include "core/fault/schedule.h"

namespace faultline::experiment {

void describe(config::Fields& f, MaintenanceWindow& s) {
  f.required("target", s.target);
  f.required("from", s.from, config::kNotNegative);
  f.required("to", s.to, config::kPositive);
  s.mark = f.mark("target");
}

void describe(config::Fields& f, MaintenanceSpec& s) {
  f.field("begins", s.begins);
  f.field("drain", s.drain, config::kPositive);
  f.list("windows", s.windows);
  f.field("calendar", s.calendar);
  s.mark = f.mark();
}

namespace {

/// A window in hours of the run; may begin before it.
struct Window {
  std::string target;
  double from_h = 0, to_h = 0;
  config::Mark mark;
};

void read_calendar(const MaintenanceSpec& spec, const std::string& folder, const config::FileReader& reader,
                   std::vector<Window>& out, config::Diagnostics& diagnostics) {
  const std::string path =
      spec.calendar.starts_with('/') || folder.empty() ? spec.calendar : folder + "/" + spec.calendar;
  const auto text = reader(path);
  if (!text) {
    diagnostics.error(spec.mark, fmt::format("maintenance.calendar: cannot read '{}'", path),
                      "paths start at the experiment's folder");
    return;
  }
  std::optional<double> begins;
  if (!spec.begins.empty()) {
    begins = fault::hours_of(spec.begins);
    if (!begins) {
      diagnostics.error(spec.mark, fmt::format("maintenance.begins: expected an instant such as "
                                               "2026-03-01T00:00:00Z, got '{}'",
                                               spec.begins));
      return;
    }
  }
  std::istringstream in(*text);
  workload::RowErrors errors(path, diagnostics);
  calibration::Delimited rows(in, errors);
  if (!rows.require({"target", "start", "end"})) return;
  while (rows.next()) {
    Window w;
    w.target = std::string(calibration::trimmed(rows.text("target")));
    w.mark = {path, rows.line(), 1};
    const auto time = [&](std::string_view column) -> std::optional<double> {
      const std::string_view value = calibration::trimmed(rows.text(column));
      const auto hours = fault::hours_of(value);
      if (!hours) {
        rows.error(column, fmt::format("expected hours of the run or an instant such as 2026-03-01T04:00:00Z, got {}",
                                       workload::shown(value)));
        return std::nullopt;
      }
      if (calibration::parse_number(value)) return hours;
      if (!begins) {
        rows.error(column, "a date needs maintenance.begins, the instant at which the run starts");
        return std::nullopt;
      }
      return *hours - *begins;
    };
    const auto from = time("start"), to = time("end");
    if (!from || !to) continue;
    w.from_h = *from;
    w.to_h = *to;
    out.push_back(std::move(w));
  }
}

}  // namespace

std::vector<fault::FaultSpec> maintenance_faults(const MaintenanceSpec& spec, const std::string& folder,
                                                 std::uint32_t nodes, Duration end, const config::FileReader& reader,
                                                 config::Diagnostics& diagnostics) {
  std::vector<Window> windows;
  for (const MaintenanceWindow& w : spec.windows)
    windows.push_back({w.target, seconds(w.from) / 3600, seconds(w.to) / 3600, w.mark});
  if (!spec.calendar.empty()) read_calendar(spec, folder, reader, windows, diagnostics);
  std::stable_sort(windows.begin(), windows.end(),
                   [](const Window& a, const Window& b) { return a.from_h < b.from_h; });
  std::vector<fault::FaultSpec> out;
  std::map<std::string, double> busy_until;  // by target
  for (const Window& w : windows) {
    if (w.to_h <= w.from_h) {
      diagnostics.error(w.mark, fmt::format("the maintenance of '{}' ends before it starts", w.target));
      continue;
    }
    std::vector<std::string> targets;
    if (w.target.find('*') == std::string::npos) {
      targets.push_back(w.target);
    } else {
      for (std::uint32_t n = 0; n < nodes; ++n) {
        if (std::string name = fmt::format("node-{}", n); fault::matches(w.target, name))
          targets.push_back(std::move(name));
      }
      if (targets.empty()) diagnostics.error(w.mark, fmt::format("maintenance: no node matches '{}'", w.target));
    }
    const Duration to = duration_from_seconds(w.to_h * 3600);
    // The notice comes before the window, where the run has begun by then.
    const Duration from = std::max(Duration{0}, duration_from_seconds(std::max(0.0, w.from_h * 3600)) - spec.drain);
    for (const std::string& target : targets) {
      const auto [busy, fresh] = busy_until.emplace(target, w.to_h);
      if (!fresh && w.from_h < busy->second) {
        diagnostics.error(w.mark, fmt::format("two maintenance windows of '{}' overlap", target));
        continue;
      }
      busy->second = w.to_h;
      if (to <= from + spec.drain || (end != kForever && from >= end)) continue;  // over, or not in this run
      fault::FaultSpec f;
      f.kind = fault::FaultKind::node_maintenance;
      f.id = fmt::format("maintenance {} {:.4g} h", target, w.from_h);
      f.target = target;
      f.mark = f.target_mark = w.mark;
      f.at = Instant{from.v};
      f.drain = spec.drain;
      f.duration = to - from - spec.drain;
      out.push_back(std::move(f));
    }
  }
  return out;
}

}  // namespace faultline::experiment

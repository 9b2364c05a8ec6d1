#include "core/fault/outages.h"

#include <algorithm>

#include "core/base/assert.h"
#include "core/base/math.h"

namespace faultline::fault {
namespace {

struct Step {
  Instant at;
  int change;  // of the number of components that are down
};

/// Sorted by time; at one instant repairs come before failures.
std::vector<Step> steps_of(const FaultSchedule& schedule, Instant end) {
  std::vector<Step> steps;
  for (const ScheduledFault& f : schedule) {
    const Instant* at = std::get_if<Instant>(&f.trigger);
    FAULTLINE_ASSERT(at != nullptr, "fault {} has no instant", f.name);
    if (*at >= end) continue;
    steps.push_back({*at, 1});
    if (f.revert() < end) steps.push_back({f.revert(), -1});
  }
  std::sort(steps.begin(), steps.end(),
            [](const Step& a, const Step& b) { return a.at != b.at ? a.at < b.at : a.change < b.change; });
  return steps;
}

}  // namespace

std::vector<double> down_at_once(const FaultSchedule& schedule, std::size_t components, Instant end) {
  std::vector<double> share(components + 1, 0);
  Instant last{0};
  std::size_t down = 0;
  for (const Step& s : steps_of(schedule, end)) {
    share[down] += seconds(s.at - last) / seconds(end);
    last = s.at;
    down = s.change > 0 ? down + 1 : down - 1;
    FAULTLINE_ASSERT(down <= components, "{} of {} components are down", down, components);
  }
  share[down] += seconds(end - last) / seconds(end);
  return share;
}

std::vector<Instant> exceeded(const FaultSchedule& schedule, std::size_t most, Instant end) {
  std::vector<Instant> out;
  std::size_t down = 0;
  for (const Step& s : steps_of(schedule, end)) {
    if (s.change > 0 && down++ == most) out.push_back(s.at);
    if (s.change < 0) --down;
  }
  return out;
}

double likelihood_ratio(const FaultSchedule& schedule, std::size_t components, double rate_per_hour, double bias,
                        Instant end) {
  FAULTLINE_ASSERT(bias > 0, "bias={}", bias);
  double down_s = 0, failures = 0;
  for (const ScheduledFault& f : schedule) {
    const Instant at = std::get<Instant>(f.trigger);
    if (at >= end) continue;
    ++failures;
    down_s += seconds(std::min(end, f.revert()) - at);
  }
  const double up_hours = (static_cast<double>(components) * seconds(end) - down_s) / 3600;
  return stable::exp((bias - 1) * rate_per_hour * up_hours - failures * stable::log(bias));
}

}  // namespace faultline::fault

#include "core/fault/shrink.h"

namespace faultline::fault {

std::vector<FaultSpec> scripted(const FaultSchedule& schedule) {
  std::vector<FaultSpec> out;
  for (const ScheduledFault& f : schedule) {
    FaultSpec s;
    s.id = f.name;
    s.kind = f.kind;
    s.target = f.target;
    s.mark = s.target_mark = f.mark;
    if (const Instant* at = std::get_if<Instant>(&f.trigger)) s.at = *at;
    else s.after = std::get<AfterEvent>(f.trigger);
    switch (info(f.kind).parameters) {
      case Parameters::none: break;
      case Parameters::slowdown:
      case Parameters::share: s.factor = f.factor; break;
      case Parameters::flap:
        s.down = f.down;
        s.up = f.up;
        s.cycles = f.cycles;
        break;
      case Parameters::loss: s.loss = f.loss; break;
      case Parameters::contained: s.contained = f.process_only ? 1 : 0; break;
      case Parameters::cooling:
        s.factor = f.factor;
        s.shutdown_after = f.shutdown_after;
        break;
      case Parameters::drain: s.drain = f.drain; break;
    }
    if (info(f.kind).takes_duration && f.length != kForever) s.duration = f.length;
    out.push_back(std::move(s));
  }
  return out;
}

}  // namespace faultline::fault
